"""A resumable training loop and the data it sees, for the bundled model and its judges."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from erase.mini import world
from erase.mini.networks import seeded
from erase.runtime.files import atomic
from erase.runtime.progress import each, progress

COUNT = 336
"""Pictures per cell of the 12 x 4 grid and split: 16,128 in all."""
Loss = Callable[[int, torch.Generator], Tensor]


def optimise(  # noqa: PLR0913 - every number of a training is told where it is called
    name: str,
    modules: nn.Module,
    loss: Loss,
    *,
    steps: int,
    lr: float,
    work: Path,
    seed: int,
    weight_decay: float = 0.01,
    ema: float = 0.0,
    every: int = 250,
) -> None:
    """Minimises ``loss(step, generator)`` with AdamW, warm-up and cosine decay; resumable.

    Every step draws from a generator of its own, seeded by (seed, stage, step), so that a stage
    that was cut off ends with the weights it would have had. With ``ema`` > 0 the averaged
    weights are left in ``modules``.
    """
    final = work / f"{name}.pt"
    part = work / f"{name}.part.pt"
    if final.exists():
        modules.load_state_dict(torch.load(final, weights_only=True))
        return
    optimizer = torch.optim.AdamW(modules.parameters(), lr=lr, weight_decay=weight_decay)
    average = {k: v.detach().clone() for k, v in modules.state_dict().items()}
    start = 0
    if part.exists():
        state = torch.load(part, weights_only=True)
        modules.load_state_dict(state["modules"])
        optimizer.load_state_dict(state["optimizer"])
        average, start = state["average"], state["step"]
    modules.train()
    salt = sum(map(ord, name))
    recent: list[float] = []
    bar = progress(name, steps, "step", done=start)
    for step in each(range(start, steps), bar):
        warm = min(1.0, (step + 1) / (0.03 * steps))
        scale = warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = lr * scale
        value = loss(step, seeded(seed, salt, step))
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        if ema:
            decay = min(ema, (step + 1) / (step + 10))
            for k, v in modules.state_dict().items():
                average[k].lerp_(v, 1 - decay) if v.is_floating_point() else average[k].copy_(v)
        recent = [*recent[-49:], value.item()]
        bar.set_postfix(loss=f"{sum(recent) / len(recent):.4f}", refresh=False)
        if (step + 1) % every == 0:
            save(
                part,
                {
                    "modules": modules.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "average": average,
                    "step": step + 1,
                },
            )
    if ema:
        modules.load_state_dict(average)
    save(final, modules.state_dict())
    part.unlink(missing_ok=True)


def save(file: Path, state: object) -> None:
    with atomic(file) as part:
        torch.save(state, part)


def pictures(split: world.Split, count: int, work: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Renders ``count`` pictures per cell.

    Returns:
        uint8 pictures (N, 3, 64, 64), object index (N,), style index (N,).
    """
    cells = [(o, s) for o in range(len(world.OBJECTS)) for s in range(len(world.STYLES))]
    objects = torch.tensor([o for o, _ in cells]).repeat_interleave(count)
    styles = torch.tensor([s for _, s in cells]).repeat_interleave(count)
    file = work / f"pictures-{split}-{count}.npy"
    if not file.exists():
        drawn = [
            world.render(world.OBJECT_LABELS[o], world.STYLE_LABELS[s], k, split)
            for o, s in cells
            for k in range(count)
        ]
        with atomic(file) as part, part.open("wb") as stream:
            np.save(stream, np.stack(drawn))
    return torch.from_numpy(np.load(file)).permute(0, 3, 1, 2), objects, styles


def prompt_bank(templates: tuple[str, ...]) -> list[tuple[str, int, int]]:
    """Every caption of the world with its object and style index (-1: style left open)."""
    bank = [
        (world.caption(t, o, s), i, j)
        for t in templates
        for i, o in enumerate(world.OBJECT_LABELS)
        for j, s in enumerate(world.STYLE_LABELS)
    ]
    plain = [
        (world.caption(t, o), i, -1)
        for t in world.PLAIN_TEMPLATES
        for i, o in enumerate(world.OBJECT_LABELS)
    ]
    return bank + plain
