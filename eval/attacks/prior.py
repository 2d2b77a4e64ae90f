"""Prior mass: how often the concept turns up where nobody asked for it.

Images of the empty prompt and of the concept's prompts without its name. What was hidden behind its
words still turns up as often as in the base; what was removed does not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING

from erase.eval.attacks import Found
from erase.eval.attacks._images import FRESH, draw

if TYPE_CHECKING:
    from torch import Generator

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target

TEXT = False


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
    """See ``Attack``; other seeds are its random search."""
    rows = len(target.rows)
    times = -(-settings.images // rows)
    nameless = ("", *(" ".join(prompt.split()) for prompt in target.concept.fill("")))
    prompts = list(islice(cycle(dict.fromkeys(nameless)), rows * times))
    first = target.rows[0].seed + (2 * FRESH if random else FRESH)
    asked = [
        replace(target.rows[i % rows], prompt=prompt, seed=first + i)
        for i, prompt in enumerate(prompts)
    ]
    return Found(*draw(model, asked, target), restarts=times)
