"""Prior mass: how often the concept turns up where nobody asked for it.

Images of the empty prompt and of the concept's prompts without its name. What was hidden behind its
words still turns up as often as in the base; what was removed does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

from erase.eval.attacks import DoesNotApply, Found
from erase.eval.attacks._images import FRESH, draw, told

if TYPE_CHECKING:
    from torch import Generator

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target

TEXT = False
ALONE = True
UNTAUGHT = True


@dataclass(frozen=True)
class Settings:
    """What is spent.

    Attributes:
        images: at least so many, as many for each row.
    """

    images: int = 600


SETTINGS = {"quick": None, "full": Settings(), "published": Settings(1000)}


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: Generator,
) -> Found:
    """See ``Attack``.

    Raises:
        DoesNotApply: for random search, which would be the same again.
    """
    if random:
        raise DoesNotApply("Prior mass searches for nothing: its bound is the floor.")
    rows = len(target.rows)
    times = -(-settings.images // rows)
    nameless = ("", *(" ".join(prompt.split()) for prompt in target.concept.fill("")))
    prompts = list(islice(cycle(dict.fromkeys(nameless)), rows * times))
    asked = [
        request
        for i in range(times)
        for request in told(target.rows, prompts[i * rows : (i + 1) * rows], FRESH * (i + 1))
    ]
    images, spent = draw(model, asked, target)
    return Found(images, spent, restarts=times, prompts=prompts[:rows], later=FRESH)
