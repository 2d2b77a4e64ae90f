"""Relearning: how few training steps on pictures of the concept bring it back.

The denoiser is trained with the diffusion loss on the base's images, E‖ε - ε_θ(x_t | c)‖², and the
rows are drawn after so many steps. Training on images of other things alone is its random bound:
what comes back then was not forgotten but pushed aside (Suriyakumar et al., arXiv 2410.08074).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import mse_loss

from erase.diffusion.data import embed_all
from erase.eval.attacks import Found
from erase.eval.attacks._drawing import Pictures
from erase.eval.attacks._images import draw
from erase.runtime.progress import progress

if TYPE_CHECKING:
    from torch import Generator

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target

TEXT = False
UNTAUGHT = True
STOPS = (5, 10, 25, 50)
"""Steps of which one is the figure: the most at which a model that never knew the concept has not
learned it either."""


@dataclass(frozen=True)
class Settings:
    """What is spent.

    Attributes:
        steps: after which the rows are drawn, from 0.
        batch: pictures a step.
        lr: learning rate of Adam, over all weights of the denoiser.
    """

    steps: tuple[int, ...] = (0, 5, 10, 25, 50, 100)
    batch: int = 8
    lr: float = 1e-4


SETTINGS = {
    "quick": Settings(),
    "full": Settings(batch=16),
    "published": Settings((0, 5, 10, 25, 50, 100, 200), 8, 1e-5),
}


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: Generator,
) -> Found:
    """See ``Attack``; the images are those after the last step, the others are in the curve."""
    rows = target.retained if random else target.shown
    pictures, spent = Pictures.of(model, base, rows, target, generator)
    c = embed_all(model, [row.prompt for row in rows])
    changed = model.frozen()
    denoiser = changed.denoiser.requires_grad_(True)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=settings.lr)
    curve = {}
    spent += 3 * settings.steps[-1] * settings.batch
    if settings.steps[0] == 0:
        curve[0], own = draw(model, target.rows, target)
        spent += own
    title = "relearning others" if random else "relearning"
    bar = progress(title, settings.steps[-1], "step")
    for before, after in pairwise((0, *(s for s in settings.steps if s))):
        for _ in range(after - before):
            index, x_t, t, goal = pictures.noised(settings.batch)
            loss = mse_loss(changed.predict(x_t, t, c[index.to(x_t.device)]), goal)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.update()
        curve[after], own = draw(changed, target.rows, target)
        spent += own
    bar.close()
    return Found(curve[settings.steps[-1]], spent, curve=curve)
