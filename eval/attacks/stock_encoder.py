"""Stock text encoder: the base's in place of the erased model's, as most tools load it anyway.

It undoes whatever was erased in the text encoder alone. The plain prompts on new seeds are its
bound.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from erase.eval.attacks import DoesNotApply, Found
from erase.eval.attacks._images import FRESH, draw, told
from erase.eval.attacks._text import reads_otherwise, text_of

if TYPE_CHECKING:
    from torch import Generator

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target

TEXT = False
UNDOES = True


@dataclass(frozen=True)
class Settings:
    """It has nothing to set."""


SETTINGS = dict.fromkeys(("quick", "full", "published"), Settings())


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
        DoesNotApply: the model's text encoders are the base's, or it has none.
    """
    text_of(model)
    if not target.bound and not reads_otherwise(model, base):
        raise DoesNotApply(
            "The model's text encoder is the base's own, so there is nothing to swap."
        )
    prompts = [row.prompt for row in target.rows]
    rows = told(target.rows, prompts, FRESH if random else 0)
    return Found(*draw(model if random else swapped(model, base), rows, target))


def swapped(model: Diffusion, base: Diffusion) -> Diffusion:
    """The model with the base's text encoders."""
    pipeline = copy.copy(model.pipeline)
    names = model.family.layout.part("text_encoder")
    pipeline.register_modules(**{name: base.networks[name] for name in names})
    return replace(model, pipeline=pipeline)
