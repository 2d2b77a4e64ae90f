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
    import torch

    from erase.diffusion.conditioning import join

    images = data.images["forget"]
    own = (images.prompt % concepts == concept).nonzero().flatten()
    order = own[cycle(len(own), len(own), 0, seed, "saliency")]
    empty = data.empty_c

    def loss(rows: Tensor, number: int, part: slice) -> Tensor:
        g = generator(seed, "saliency", number)
        x0, noise = (drawn[part] for drawn in images.draw(rows, g))
        t = torch.randint(data.timesteps, (len(rows),), generator=g)[part].to(x0.device)
        rows = rows[part]
        x_t = diffusion.add_noise(x0, noise, t)
        c = data.c[images.prompt[rows]]
        if w:
            both = join([c, empty.repeat(len(rows))])
            conditional, unconditional = (
                diffusion.predict(torch.cat([x_t, x_t]), torch.cat([t, t]), both).float().chunk(2)
            )
            predicted = (1 + w) * conditional - w * unconditional
        else:
            predicted = diffusion.predict(x_t, t, c)
        wanted = diffusion.target(x0, noise, t)
        return (predicted - wanted).float().square().mean() * len(rows) / batch

    width = at_once or batch
    for number, rows in processes.deal(list(enumerate(order.split(batch)))):
        for start in range(0, len(rows), width):
            part = slice(start, start + width)
            yield lambda rows=rows, number=number, part=part: loss(rows, number, part)  # type: ignore[misc]
