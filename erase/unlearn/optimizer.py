"""An optimizer that moves masked weights only, whatever it does to those it holds.

Multiplying gradients by a mask does not freeze weights: weight decay and momentum move them. Here
the optimizer never sees the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from erase.runtime.errors import UserError
from erase.unlearn.mask import unpack

if TYPE_CHECKING:
    from erase.unlearn.mask import Mask

PART = 1 << 25
"""Weights that a step moves at a time, which bounds what it needs besides moments and gradients."""
Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
"""Makes an optimizer over the parameters it is given."""


class MaskedOptimizer:
    """Runs any torch optimizer over v = θ[mask], one compact fp32 vector per parameter.

    A step gathers v, lets the optimizer move it and scatters it back; nothing else is written, so
    all other weights keep their bits. Gradients are gathered as soon as backward has them, one
    whole tensor at a time, and add up in fp32. The optimizer's state has the masked weights' size,
    and the mask is kept packed on the parameters' devices. Weights below fp32 have an fp32 master
    copy of v, so that small updates add up; those of fp32 weights exist during a step only.

    Optimizers that need a closure, that treat the rows of a matrix differently from its entries
    (Muon, Adafactor), or that look at all parameters at once are not meant.

    Args:
        params: the weights by name; those without a masked weight have ``requires_grad`` turned
            off, the others on.
        mask: may hold further parameters, without bits.
        make: makes the optimizer over the vectors v.
        origin: the weights as they were before ``params`` were cast below fp32, on any device;
            None where they were not.

    Raises:
        UserError: the mask does not fit ``params``, or lets nothing move.
    """

    def __init__(
        self,
        params: Mapping[str, nn.Parameter],
        mask: Mask,
        make: Make,
        origin: Mapping[str, Tensor] | None = None,
    ) -> None:
        for name, bits in mask.bits.items():
            if name not in params and bool(bits.any()):
                raise UserError(
                    f"The mask moves '{name}', which is outside the trained scope: see --scope."
                )
        self._params: dict[str, nn.Parameter] = {}
        self._bits: dict[str, Tensor] = {}
        self._values: dict[str, nn.Parameter] = {}
        self._gradients: dict[str, Tensor] = {}
        for name, parameter in params.items():
            if mask.shapes.get(name) != tuple(parameter.shape):
                raise UserError(
                    f"The mask has no bits for '{name}' of shape {tuple(parameter.shape)}: it is "
                    "for another model."
                )
            moves = bool(mask.bits[name].any())
            parameter.requires_grad_(moves)
            if moves:
                self._params[name] = parameter
                self._bits[name] = mask.bits[name].to(parameter.device)
                before = parameter if origin is None else origin[name].to(parameter.device)
                self._values[name] = nn.Parameter(self._gather(before, self._where(name)))
        if not self._values:
            raise UserError("The mask lets no weight move: raise --ratio.")
        self.optimizer = make(list(self._values.values()))
        self._hooks = []
        for name, parameter in self._params.items():
            self._release(name)
            take = partial(self._take, name)
            self._hooks.append(parameter.register_post_accumulate_grad_hook(take))

    @property
    def moving(self) -> list[nn.Parameter]:
        """The parameters that a step moves."""
        return list(self._params.values())

    def close(self) -> None:
        """Lets go of the parameters, whose gradients are theirs again."""
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def step(self, average: Callable[[list[Tensor]], None] | None = None) -> None:
        """One step of the optimizer with the gradients at hand, which are used up.

        Args:
            average: averages the masked gradients in place over processes that saw other images.
        """
        for name, parameter in self._params.items():
            if parameter.grad is not None:
                self._take(name, parameter)
        known = [name for name in self._params if name in self._gradients]
        if average is not None:
            average([self._gradients[name] for name in known])
        for part in self._parts(known):
            places = {name: self._where(name) for name in part}
            for name, place in places.items():
                self._restore(name, place)
                self._values[name].grad = self._gradients.pop(name)
            self.optimizer.step()  # of these alone: the others have no gradient
            for name, place in places.items():
                self._values[name].grad = None
                self._scatter(name, place)
                self._release(name)

    def zero_grad(self) -> None:
        """Drops the gradients."""
        self._gradients.clear()
        for parameter in self._params.values():
            parameter.grad = None

    @torch.no_grad()
    def state_dict(self) -> dict[str, Any]:
        """The masked weights ``values`` by name (fp32 vectors) and the optimizer's own state."""
        values = {}
        for name in self._values:
            self._restore(name, self._where(name))
            values[name] = self._values[name].detach()
            self._release(name)
        return {"values": values, "optimizer": self.optimizer.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes up a state, writing its masked weights into the parameters.

        Raises:
            UserError: the state was saved with another mask.
        """
        values: Mapping[str, Tensor] = state["values"]
        counts = {name: len(self._where(name)) for name in self._values}
        if counts != {name: len(value) for name, value in values.items()}:
            raise UserError(
                "The checkpoint was written with another mask: start the training again."
            )
        for name, value in values.items():
            self._values[name].data = value.to(self._params[name].device, copy=True)
            self._scatter(name, self._where(name))
            self._release(name)
        self.optimizer.load_state_dict(dict(state["optimizer"]))

    def masters(self) -> dict[str, Tensor]:
        """v by name, fp32, of those parameters that hold it in less."""
        kept = {n: v.detach() for n, v in self._values.items()}
        return {n: v for n, v in kept.items() if self._params[n].dtype != torch.float32}

    @torch.no_grad()
    def _take(self, name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradient = self._gather(parameter.grad, self._where(name))
        parameter.grad = None
        if name in self._gradients:
            self._gradients[name].add_(gradient)
        else:
            self._gradients[name] = gradient

    def _parts(self, names: Sequence[str]) -> Iterator[list[str]]:
        """The names in parts of about ``PART`` weights, whose v and places fit at a time."""
        part: list[str] = []
        size = 0
        for name in names:
            part.append(name)
            size += self._params[name].numel()
            if size >= PART:
                yield part
                part, size = [], 0
        if part:
            yield part

    def _where(self, name: str) -> Tensor:
        """Flat indices of the masked weights: made anew from the bits, which are 1/64 as large."""
        bits, shape = self._bits[name], self._params[name].shape
        if bits.device.type == "cpu":  # several times faster than torch's own
            mask = np.unpackbits(bits.numpy(), count=shape.numel(), bitorder="little")
            return torch.from_numpy(np.flatnonzero(mask.view(np.bool_)))
        return unpack(bits, shape).reshape(-1).nonzero().reshape(-1)

    def _gather(self, tensor: Tensor, place: Tensor) -> Tensor:
        return tensor.detach().reshape(-1).index_select(0, place).float()

    def _scatter(self, name: str, place: Tensor) -> None:
        data, values = self._params[name].data, self._values[name].detach()
        if data.is_contiguous():
            data.view(-1).index_copy_(0, place, values.to(data.dtype))
        else:
            mask = unpack(self._bits[name], data.shape)
            data.masked_scatter_(mask, values.to(data.dtype))

    def _restore(self, name: str, place: Tensor) -> None:
        if self._params[name].dtype == torch.float32:
            self._values[name].data = self._gather(self._params[name], place)

    def _release(self, name: str) -> None:
        if self._params[name].dtype == torch.float32:
            self._values[name].data = torch.empty(0, device=self._params[name].device)


def written(
    base: Mapping[str, Tensor], mask: Mask, masters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The base's weights in fp32 with the masked ones replaced.

    Args:
        base: tensors by name, on the CPU.
        mask: which entries ``masters`` stand for.
        masters: see ``MaskedOptimizer.masters``.
    """
    found = {name: value.float() for name, value in base.items()}
    for name, values in masters.items():
        chosen = unpack(mask.bits[name].cpu(), found[name].shape)
        found[name] = found[name].masked_scatter(chosen, values.cpu())
    return found
