"""Known words, one or two, that the text encoder puts nearest to the concept: every one is tried.

The words are those of the retained prompts, of others of the concept's and of its paraphrases,
without the concept's own words in any form. Each of them, and each ordered pair, is a prompt by
itself and is scored by

    cos(E(words), mean E(the concept's prompts)),

with E the hidden state of the base's text encoder at the end of the text, where CLIP sums it up.
The best are dealt out over the rows, in turn, and are all that those are drawn with. Random search
deals out as many of the same candidates, whatever their scores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import normalize

from erase.diffusion.tokens import read
from erase.eval.attacks import DoesNotApply, Found
from erase.eval.attacks._images import anew, draw, told
from erase.eval.attacks._text import AT_ONCE, hidden, names_it, own_words, text_of
from erase.runtime.progress import each, progress
from erase.runtime.words import fold

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.diffusion.text import Text
    from erase.eval.attacks import Size, Target

TEXT = True
PARAPHRASES = True
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


@dataclass(frozen=True)
class Settings:
    """What the search spends.

    Attributes:
        best: candidates that are dealt out, >= 1.
        most: candidates that are scored, >= 1. All words are candidates by themselves; where there
            are too many pairs, those of the words with the best scores are taken.
    """

    best: int
    most: int


SETTINGS: dict[Size, Settings] = {
    "quick": Settings(best=20, most=5_000),
    "full": Settings(best=60, most=20_000),
    "published": Settings(best=60, most=100_000),
}


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: torch.Generator,
) -> Found:
    """See ``Attack``; the scores cost no image through the denoiser.

    Raises:
        DoesNotApply: the model has no text encoder, or no other word is known.
    """
    text_of(model)
    # Who can only type does not have the text encoder that an erasure may have changed.
    text = text_of(base)
    words = known(target)
    if not words:
        raise DoesNotApply(
            f"No words are known besides those of '{target.concept.name}': give its concept "
            "file prompts to retain."
        )
    goal = torch.cat(list(ends(text, target.concept.prompts()))).mean(0)
    found, scores = score(text, words, goal, settings.most)
    if random:
        order = torch.randperm(len(found), generator=generator)
    else:
        order = scores.argsort(descending=True, stable=True)
    best = [found[i] for i in order[: settings.best].tolist()]
    prompts = [best[i % len(best)] for i in range(len(target.rows))]
    images, spent = draw(model, told(target.rows, prompts), target)
    fresh, again = anew(model, prompts, random, target)
    return Found(images, spent + again, fresh=fresh, prompts=prompts, tokens=read(text, prompts))


def known(target: Target) -> list[str]:
    """The words that an attacker has read, sorted, without the concept's own in any form."""
    prompts = [row.prompt for row in (*target.retained, *target.shown)]
    own = own_words(target.concept)
    words = {word for text in (*prompts, *target.paraphrases) for word in _WORD.findall(fold(text))}
    return sorted(word for word in words if not names_it(word, own))


def score(text: Text, words: Sequence[str], goal: Tensor, most: int) -> tuple[list[str], Tensor]:
    """The candidates and their scores in [-1, 1].

    Args:
        text: the text encoders.
        words: V of them.
        goal: the concept's embedding (D,).
        most: candidates, but at least the words: V² of them if they fit, or else the words and
            the pairs of as many of the best ones as fit.
    """
    alone = cosines(text, words, goal)
    # The most words m with m(m - 1) ordered pairs in what is left.
    paired = (1 + math.isqrt(1 + 4 * max(0, most - len(words)))) // 2
    best = sorted(alone.argsort(descending=True, stable=True)[:paired].tolist())
    pairs = [f"{words[i]} {words[j]}" for i in best for j in best if i != j]
    return [*words, *pairs], torch.cat([alone, cosines(text, pairs, goal)])


def cosines(text: Text, prompts: Sequence[str], goal: Tensor) -> Tensor:
    """cos(E(prompt), goal) of each, (N,)."""
    aim = normalize(goal, dim=0)
    bar = progress("words", math.ceil(len(prompts) / AT_ONCE), "part")
    found = [normalize(part) @ aim for part in each(ends(text, prompts), bar)]
    return torch.cat([goal.new_empty(0), *found]).cpu()


def ends(text: Text, prompts: Sequence[str]) -> Iterator[Tensor]:
    """E (≤ ``AT_ONCE``, D) of prompts, part by part: the hidden state of the end of the text."""
    for i in range(0, len(prompts), AT_ONCE):
        rows = read(text, prompts[i : i + AT_ONCE])
        [states] = hidden(text, rows)
        last = torch.tensor([len(row) + 1 for row in rows], device=states.device)
        yield states[torch.arange(len(rows), device=states.device), last]
