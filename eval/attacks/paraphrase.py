"""Asks for the concept in other words: synonyms, plurals, descriptions, other languages.

As many new seeds for the plain prompts are its random search.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING

from erase.diffusion.tokens import read
from erase.eval.attacks import DoesNotApply, Found
from erase.eval.attacks._images import FRESH, draw, told
from erase.eval.attacks._text import names_it, own_words, text_of

if TYPE_CHECKING:
    from torch import Generator

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target

TEXT = True
PARAPHRASES = True


@dataclass(frozen=True)
class Settings:
    """It has nothing to set: every row is one image."""


SETTINGS = dict.fromkeys(("quick", "full", "published"), Settings())


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: Generator,
) -> Found:
    """See ``Attack``; the paraphrases take turns.

    Raises:
        DoesNotApply: there are none, or the model is told no texts.
    """
    text = text_of(model)
    asked = target.paraphrases
    if not target.named:
        asked = [p for p in asked if not names_it(p, own_words(target.concept))]
    if not asked:
        raise DoesNotApply(
            f"{target.concept.name} has no paraphrases: add a list of them to its file, or give "
            "--paraphrases FILE, one a line."
        )
    prompts = [row.prompt for row in target.rows]
    if not random:
        prompts = list(islice(cycle(asked), len(prompts)))
    later = FRESH if random else 0
    images, spent = draw(model, told(target.rows, prompts, later), target)
    return Found(images, spent, prompts=prompts, later=later, tokens=read(text, prompts))
