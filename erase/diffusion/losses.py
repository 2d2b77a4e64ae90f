"""The loss whose gradient is a diffusion model's saliency (SalUn, equation 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from erase.runtime import processes
from erase.runtime.seeding import cycle, generator

if TYPE_CHECKING:
    from torch import Tensor

    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion


def saliency_losses(
    diffusion: Diffusion,
    data: TrainingData,
    *,
    w: float,
    batch: int,
    seed: int,
    concept: int = 0,
    concepts: int = 1,
    at_once: int | None = None,
) -> Iterator[Callable[[], Tensor]]:
    """One loss per batch of a single pass over a concept's forget set.

    MSE(ε, (1+w)·ε_θ(x_t|c) - w·ε_θ(x_t|∅)), both branches with gradient at the same x_t and t
    (SalUn's code; w = 0 is the paper's equation 4). Each batch's mean is weighted by its size, so
    that the sum over batches is the full set's gradient. With several concepts, whose pairs take
    turns, ``concept`` of ``concepts`` is the one whose images are looked at. A batch is taken in
    parts of ``at_once`` images, for less memory and the same sum.
    """
    images = data.images["forget"]
    own = (images.prompt % concepts == concept).nonzero().flatten()
    order = own[cycle(len(own), len(own), 0, seed, "saliency")]

    def loss(rows: Tensor, number: int, part: slice) -> Tensor:
        [b] = data.noised({"forget": rows}, generator(seed, "saliency", number), part)
        if w:
            empty = data.empty_c.repeat(len(b.t))
            e_c, e_empty = diffusion.predict_each((b.x_t, b.t, b.c), (b.x_t, b.t, empty))
            e = (1 + w) * e_c - w * e_empty
        else:
            e = diffusion.predict(b.x_t, b.t, b.c)
        return (e - b.target).square().mean() * len(b.t) / batch

    width = at_once or batch
    for number, rows in processes.deal(list(enumerate(order.split(batch)))):
        for start in range(0, len(rows), width):
            part = slice(start, start + width)
            yield lambda rows=rows, number=number, part=part: loss(rows, number, part)  # type: ignore[misc]
