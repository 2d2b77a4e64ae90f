"""Gradients of a loss over a forget set: which weights matter for the concept.

SalUn (Fan et al., arXiv 2310.12508), equation 4: the signed gradient is summed over the whole set
and its magnitude taken once, at the end. Any module and any loss will do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from erase.runtime.errors import UserError


def accumulate(
    params: Mapping[str, nn.Parameter],
    losses: Iterable[Callable[[], Tensor]],
    absolute: bool = False,
    add: Callable[[Iterable[Tensor]], None] | None = None,
) -> dict[str, Tensor]:
    """|Σ_i ∇_θ L_i|, or Σ_i |∇_θ L_i| with ``absolute``.

    Gradients stay on their parameters' devices and are summed in fp32 as soon as each is known,
    so that besides the sums one tensor's gradient is alive at a time. ``grad`` and
    ``requires_grad`` of the parameters are put back afterwards, and those of all other parameters
    are left alone.

    Args:
        params: the weights θ by name.
        losses: each call computes one scalar L_i with its graph; called once, in order.
        absolute: take magnitudes before the sum instead of after it.
        add: sums tensors in place over processes that were dealt other losses.

    Returns:
        fp32 tensors of the parameters' names, shapes and devices, all >= 0; zeros where no loss
        depends on a parameter.

    Raises:
        UserError: there are no losses, unless other processes may have some.
    """
    sums: dict[str, Tensor] = {}

    def keep(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None
        # In the order that masks count in, whatever the layout: one copy here spares one later.
        gradient = parameter.grad.float().contiguous()
        parameter.grad = None
        if absolute:
            gradient.abs_()
        if name in sums:
            sums[name].add_(gradient)
        else:
            sums[name] = gradient

    before = [(p, p.requires_grad, p.grad) for p in params.values()]
    hooks = []
    count = 0
    try:
        for name, parameter in params.items():
            parameter.grad = None
            parameter.requires_grad_(True)
            hooks.append(
                parameter.register_post_accumulate_grad_hook(lambda p, name=name: keep(name, p))
            )
        with torch.enable_grad():
            for loss in losses:
                torch.autograd.backward(loss(), inputs=list(params.values()))
                count += 1
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, required, gradient in before:
            parameter.requires_grad_(required)
            parameter.grad = gradient
    if not count and add is None:
        raise UserError("There is nothing to measure saliency on: the forget set is empty.")
    if add is not None:
        for name, p in params.items():
            sums.setdefault(name, _zeros(p))
        add(sums[name] for name in params)
    return {name: sums[name].abs_() if name in sums else _zeros(p) for name, p in params.items()}


def _zeros(parameter: Tensor) -> Tensor:
    return torch.zeros(parameter.shape, dtype=torch.float32, device=parameter.device)
