"""What an attacker is asked to bring back, on each side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from erase.eval.attacks import Attack, Judge, Target
from erase.eval.recovery.outcome import SideName
from erase.images.plan import plan
from erase.prompts.classes import anchor_of
from erase.prompts.concept import PROMPT_SEEDS, Concept, articles
from erase.prompts.groups import neighbour_word
from erase.prompts.held_out import evaluation_rows, retain_rows
from erase.prompts.prompt_set import SPACING, Row
from erase.runs.attacks import APART
from erase.runs.make import family

if TYPE_CHECKING:
    from erase.images.request import Request
    from erase.runs.attacks.inquiry import Inquiry

BOUNDS: tuple[SideName, ...] = ("ceiling", "floor")
"""Sides that do not depend on the model in question, so that they are measured once."""
SHOWN = 20
"""Pictures of the concept that an attacker has, and as many of other things."""
SHOWN_SHIFT = 600_000_000
"""Added to the seeds of an attacker's pictures, so that none is one of training."""


def target_for(module: Attack, inquiry: Inquiry, side: str, judge: Judge) -> Target:
    """What an attack is handed, see ``target_of``; paraphrases only where it reads them, so that
    the results of others don't depend on them."""
    found = target_of(inquiry, side, judge, module.TEXT)
    return found if getattr(module, "PARAPHRASES", False) else replace(found, paraphrases=())


def target_of(inquiry: Inquiry, side: str, judge: Judge, text: bool) -> Target:
    """What an attack is handed.

    The bounds are asked for the images of seed 0, so that they can be kept. For the ceiling of a
    text attack the concept's own name is taken out, since the base draws what it is asked for; for
    a floor without a model of its own another name stands in its place.

    Args:
        inquiry: what is attacked.
        side: erased, random, ceiling or floor.
        judge: of the images.
        text: whether the attack is one by prompts alone.
    """
    concept = inquiry.concept
    own, _ = evaluation_rows(concept)
    seed = inquiry.seed if side in ("erased", "random") else 0
    rows = plan(own, inquiry.rows, "attack", "forget", seed * APART)
    shown = plan(_numbered(concept.prompts()), SHOWN, "shown", "forget", SHOWN_SHIFT)
    kept = plan(retain_rows(concept, inquiry.retain), SHOWN, "kept", "retain", SHOWN_SHIFT)
    paraphrases = inquiry.paraphrases
    asked = rows
    if side == "ceiling" and text:
        asked = renamed(rows, concept, "")
    elif side == "floor" and inquiry.floor is None:
        unknown = "" if concept.classes else inquiry.unknown
        asked, shown = renamed(rows, concept, unknown), renamed(shown, concept, unknown)
        concept = replace(concept, word=unknown)
        paraphrases = (unknown,) if paraphrases else ()
    return Target(
        concept=concept,
        rows=asked,
        pictured=rows if side == "ceiling" else asked,
        shown=shown,
        retained=kept,
        elsewhere=elsewhere(rows, inquiry.concept, family(inquiry.base)),
        paraphrases=paraphrases,
        sampler=inquiry.sampler,
        judge=judge,
        named=side != "ceiling" or not text,
        batch=inquiry.batch,
        bound=side in BOUNDS,
    )


def _numbered(prompts: Sequence[str]) -> tuple[Row, ...]:
    return tuple(Row(i, prompt, PROMPT_SEEDS + SPACING * i) for i, prompt in enumerate(prompts))


def renamed(rows: Sequence[Request], concept: Concept, other: str) -> list[Request]:
    """The rows with another word in the place of the concept's, whatever its case; "" takes it out.

    A prompt that asks for the concept in other words gives way to one of its templates.
    """
    # At the beginning of a word: "ink" is not in "pink", but "church" is in "churches".
    pattern = re.compile(rf"(?<!\w){re.escape(concept.word)}", re.IGNORECASE)
    instead = concept.fill(other)

    def said(number: int, prompt: str) -> str:
        if concept.classes:
            return other
        if not pattern.search(prompt):
            return " ".join(instead[number % len(instead)].split())
        return articles(" ".join(pattern.sub(lambda _: other, prompt).split()))

    return [replace(row, prompt=said(i, row.prompt)) for i, row in enumerate(rows)]


def elsewhere(rows: Sequence[Request], concept: Concept, home: str | None) -> list[Request]:
    """The rows with a wrong concept: a neighbour, which erasing does not aim at, or the anchor,
    which as free text stands for itself; [] where there is neither.

    Args:
        rows: that ask for the concept.
        concept: what is erased.
        home: family in which an anchor's short name is looked up, see ``classes.anchor_of``.
    """
    for name in concept.neighbours:
        if (word := neighbour_word(name, concept)) != concept.word:
            return renamed(rows, concept, word)
    if not concept.anchor:
        return []
    anchor = anchor_of(concept, concept.anchor, home)
    if anchor.kind == concept.kind or anchor.word != anchor.name:
        return renamed(rows, concept, anchor.word)
    return [replace(row, prompt=anchor.prompts()[0]) for row in rows]
