"""The only training loop: masked optimisation with checkpoints, a log and a guard against NaN."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor, nn

from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.files import atomic, write_text
from erase.runtime.progress import each, progress
from erase.runtime.seeding import generator
from erase.unlearn.mask import unpack
from erase.unlearn.optimizer import MaskedOptimizer
from erase.unlearn.parts import WHOLE

if TYPE_CHECKING:
    from accelerate import Accelerator

    from erase.unlearn.mask import Mask

LOG = "train.jsonl"
Step = Callable[[int, slice], Mapping[str, Tensor]]
"""Given the step's number and which rows of its batch to look at, the scalars to log, means over
those rows; ``loss`` is minimised."""
Watch = Callable[[int, Mapping[str, float]], None]
"""Told the steps done so far and what the last one logged."""


class Beside(Protocol):
    """What learns in the same steps as the weights, with an optimizer of its own."""

    def update(self, index: int) -> None:
        """Moves, after the weights, by what step ``index`` has left."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that the steps to come depend on: tensors, numbers and text."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Settings:
    """What the loop needs from a recipe.

    Attributes:
        steps: optimisation steps, >= 1.
        lr: learning rate, > 0.
        optimizer: ``adam``, ``adamw``, ``adam8bit`` (moments in 8 bits) or ``sgd``.
        weight_decay: of the masked weights, >= 0.
        checkpoint_every: steps between checkpoints, >= 1.
        schedule: ``constant``; ``cosine`` from ``lr`` at the first step to 0 after the last; or
            ``step``, a tenth of it after half of the steps and a hundredth after three quarters.
    """

    steps: int
    lr: float
    optimizer: Literal["adam", "adamw", "adam8bit", "sgd"] = "adam"
    weight_decay: float = 0.0
    checkpoint_every: int = 100
    schedule: Literal["constant", "cosine", "step"] = "constant"

    def rate(self, index: int) -> float:
        """The learning rate of a step, counted from 0."""
        if self.schedule == "constant":
            return self.lr
        if self.schedule == "step":
            return self.lr * 0.1 ** ((2 * index >= self.steps) + (4 * index >= 3 * self.steps))
        return self.lr * 0.5 * (1 + math.cos(math.pi * index / self.steps))


@dataclass(frozen=True)
class Fit:
    """Minimises a loss over the masked weights of a module: ``fit(module, step)``.

    Attributes:
        settings: optimizer and number of steps.
        mask: the weights that may move.
        folder: holds ``checkpoints/`` and ``train.jsonl``.
        key: of the training's inputs; a checkpoint with another one is not taken up.
        accelerator: device and precision.
        parts: the rows of each batch that the step is given, one after the other; of one size.
        origin: the weights in the file's precision, where the module holds them in less.
        masters: filled by a training: fp32 values of the masked weights, by name, where the
            module holds them in less.
        watch: told after each step, before its checkpoint; a closed form's before and after are
            steps 0 and 1.
        buffers: whether the module's buffers move, as BatchNorm's running statistics do, so that
            they belong to a checkpoint; processes average them.
        title: of the progress bar.
        advice: what helps against a loss that is not finite.
        draws: key of what the module itself draws in a step, as dropout does; None where it draws
            nothing.
    """

    settings: Settings
    mask: Mask
    folder: Path
    accelerator: Accelerator
    key: str = ""
    parts: Sequence[slice] = (WHOLE,)
    origin: Mapping[str, Tensor] | None = None
    masters: dict[str, Tensor] = field(default_factory=dict)
    watch: Watch | None = None
    buffers: bool = False
    draws: tuple[int | str, ...] | None = None
    title: str = "train"
    advice: str = "lower --lr or use --precision fp32"

    def __call__(self, module: nn.Module, step: Step, *beside: Beside) -> None:
        """Trains in place, from the last checkpoint where there is one.

        Args:
            module: whose masked weights move.
            step: see ``Step``.
            beside: what learns with them.

        Raises:
            UserError: the loss is not finite; the last good checkpoint is kept.
        """
        params = self._parameters(module)
        module.requires_grad_(False)
        for parameter in params.values():
            parameter.requires_grad_(True)
        optimizer = MaskedOptimizer(params, self.mask, self._optimizer, self.origin)
        try:
            moving = dict(module.named_buffers()) if self.buffers else {}
            self._train(optimizer, step, moving, beside)
            self.masters.update(optimizer.masters())
        finally:
            optimizer.close()
            module.requires_grad_(False)

    def _train(
        self,
        optimizer: MaskedOptimizer,
        step: Step,
        moving: Mapping[str, Tensor],
        beside: Sequence[Beside],
    ) -> None:
        settings = self.settings
        rows, start = self._resume(optimizer, moving, beside)
        self._log(rows)
        bar = progress(self.title, settings.steps, "step", done=start)
        began = time.perf_counter() - (float(rows[-1]["seconds"]) if rows else 0.0)
        for index in each(range(start, settings.steps), bar):
            figures = self._gradients(step, index, optimizer.moving)
            if not all(map(math.isfinite, figures.values())):
                raise UserError(self._diverged(f"The loss is not finite at step {index + 1}"))
            for group in optimizer.optimizer.param_groups:
                group["lr"] = settings.rate(index)
            optimizer.step(processes.average)
            processes.average([b for b in moving.values() if b.is_floating_point()])
            optimizer.zero_grad()
            for other in beside:
                other.update(index)
            seconds = round(time.perf_counter() - began, 3)
            rows.append({"step": index + 1, **figures, "seconds": seconds})
            self._add(rows[-1])
            if self.watch is not None:
                looked = time.perf_counter()
                self.watch(index + 1, rows[-1])
                began += time.perf_counter() - looked  # no part of training
            bar.set_postfix(loss=f"{figures['loss']:.4f}", refresh=False)
            if (index + 1) % settings.checkpoint_every == 0 or index + 1 == settings.steps:
                self._save(optimizer, index + 1, rows, moving, beside)

    def _gradients(
        self, step: Step, index: int, moving: Sequence[nn.Parameter]
    ) -> dict[str, float]:
        """Leaves the step's gradients on the weights, and returns its means over all images."""
        from accelerate.utils import AutocastKwargs

        # A weight cast under no_grad (CA's target, ESD's x_t) would be cached without its graph,
        # and the gradient would never reach it: not every torch tells the two apart.
        uncached = AutocastKwargs(cache_enabled=False)
        total: dict[str, Tensor] = {}
        if self.draws is not None:
            torch.manual_seed(int(generator(*self.draws, index, processes.index()).initial_seed()))
        for part in self.parts:
            with self.accelerator.autocast(uncached):
                values = step(index, part)
            for name, value in values.items():
                share = value.detach().float() / len(self.parts)
                total[name] = total[name] + share if name in total else share
            if not bool(torch.isfinite(values["loss"].detach())):
                break
            # Of these alone: what learns beside them has gradients of its own.
            self.accelerator.backward(values["loss"] / len(self.parts), inputs=list(moving))
        told = torch.stack(list(total.values()))
        processes.average([told])
        return dict(zip(total, told.tolist(), strict=True))

    @torch.no_grad()
    def assign(self, module: nn.Module, solution: Callable[[str, Tensor], Tensor]) -> None:
        """Sets the masked weights to a closed form's solution, in place of training.

        Args:
            module: changed in place.
            solution: from a weight's name and its value to the new one, of the same shape.

        Raises:
            UserError: the solution is not finite.
        """
        if self.watch is not None:
            self.watch(0, {})
        for name, parameter in self._parameters(module).items():
            mask = unpack(self.mask.bits[name].to(parameter.device), parameter.shape)
            if not bool(mask.any()):
                continue
            value = solution(name, parameter.detach()).to(parameter.dtype).to(parameter.device)
            if not bool(torch.isfinite(value).all()):
                raise UserError(
                    f"The solution for '{name}' is not finite: check the method's settings."
                )
            parameter.data = torch.where(mask, value, parameter)
        self._log([])
        if self.watch is not None:
            self.watch(1, {})
        processes.wait()  # the first of them writes the log, and all read it

    def _parameters(self, module: nn.Module) -> dict[str, nn.Parameter]:
        """Those that the mask is drawn from, in the module's own order."""
        own = self.mask.drawn_from()
        return {name: p for name, p in module.named_parameters() if name in own}

    def _diverged(self, what: str) -> str:
        last = self._last()
        kept = f"the checkpoint of step {last} is kept" if last else "there is no checkpoint yet"
        return f"{what}: {self.advice}; {kept}."

    def _optimizer(self, params: list[nn.Parameter]) -> torch.optim.Optimizer:
        lr, decay = self.settings.lr, self.settings.weight_decay
        fused = all(p.device.type in ("cpu", "cuda") for p in params)
        match self.settings.optimizer:
            case "adam":
                return torch.optim.Adam(params, lr=lr, weight_decay=decay, fused=fused)
            case "adamw":
                return torch.optim.AdamW(params, lr=lr, weight_decay=decay, fused=fused)
            case "adam8bit":
                import bitsandbytes

                eight: Any = bitsandbytes.optim
                made: torch.optim.Optimizer = eight.Adam8bit(params, lr=lr, weight_decay=decay)
                return made
            case "sgd":
                return torch.optim.SGD(params, lr=lr, weight_decay=decay, momentum=0.9)

    @property
    def _folder(self) -> Path:
        return self.folder / "checkpoints"

    def _checkpoints(self) -> list[Path]:
        return sorted(self._folder.glob("step-*.pt"))

    def _last(self) -> int:
        found = self._checkpoints()
        return int(found[-1].stem.removeprefix("step-")) if found else 0

    def _log(self, rows: list[dict[str, Any]]) -> None:
        """Begins the log anew: steps after the checkpoint are taken again."""
        if processes.is_main():
            text = "".join(json.dumps(r) + "\n" for r in rows)
            write_text(self.folder / LOG, text)

    def _add(self, row: Mapping[str, Any]) -> None:
        if processes.is_main():
            with (self.folder / LOG).open("a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")

    def _save(
        self,
        optimizer: MaskedOptimizer,
        step: int,
        rows: list[dict[str, Any]],
        moving: Mapping[str, Tensor],
        beside: Sequence[Beside],
    ) -> None:
        """Keeps the last two checkpoints, so that one cut short is never the only one.

        Raises:
            UserError: a weight is not finite, or the disk is full.
        """
        state = optimizer.state_dict()
        if not all(bool(torch.isfinite(v).all()) for v in state["values"].values()):
            raise UserError(self._diverged(f"Weights are not finite after step {step}"))
        if processes.is_main():
            content = {"optimizer": state, "step": step, "rows": rows, "key": self.key}
            if moving:
                content["buffers"] = dict(moving)
            if beside:
                content["beside"] = [other.state_dict() for other in beside]
            # Through an open file: torch's own writer hides what the disk says.
            with atomic(self._folder / f"step-{step:07d}.pt") as part, part.open("wb") as stream:
                torch.save(content, stream)
            for old in self._checkpoints()[:-2]:
                old.unlink()
        processes.wait()

    def _resume(
        self, optimizer: MaskedOptimizer, moving: Mapping[str, Tensor], beside: Sequence[Beside]
    ) -> tuple[list[dict[str, Any]], int]:
        for file in reversed(self._checkpoints()):
            try:
                state = torch.load(file, map_location="cpu", weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, UnpicklingError) as error:
                print(f"The checkpoint {file} can't be read ({error}): using an older one.")
                continue
            if state["key"] != self.key:
                continue
            optimizer.load_state_dict(state["optimizer"])
            for name, buffer in moving.items():
                buffer.copy_(state["buffers"][name])
            for other, kept in zip(beside, state.get("beside", ()), strict=True):
                other.load_state_dict(kept)
            return list(state["rows"]), int(state["step"])
        processes.wait()
        if processes.is_main():  # of later steps, they would outlive this training's own
            for file in self._checkpoints():
                file.unlink()
        processes.wait()
        return [], 0


def logged_seconds(folder: Path) -> float:
    """Seconds that the steps took whose result is kept, whatever was killed in between."""
    rows = (folder / LOG).read_text(encoding="utf-8").splitlines()
    return float(json.loads(rows[-1])["seconds"]) if rows else 0.0
