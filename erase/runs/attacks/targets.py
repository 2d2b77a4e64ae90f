"""What an attacker is asked to bring back, on each side."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from erase.eval.attacks import Judge, Target
from erase.images.plan import plan
from erase.prompts.classes import anchor_of
from erase.prompts.concept import PROMPT_SEEDS, Concept, articles
from erase.prompts.held_out import evaluation_rows, retain_rows
from erase.prompts.prompt_set import SPACING, Row
from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from erase.images.request import Request
    from erase.runs.attacks.inquiry import Inquiry

BOUNDS = ("ceiling", "floor")
"""Sides that do not depend on the model in question, so that they are measured once."""
SHOWN = 20
"""Pictures of the concept that an attacker has, and as many of other things."""
APART = 7_000_003
"""Between the images of one seed and the next."""
SHOWN_SHIFT = 600_000_000
"""Added to the seeds of an attacker's pictures, so that none is one of training."""


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
    kept = plan(retain_rows(concept), SHOWN, "kept", "retain", SHOWN_SHIFT)
    word, paraphrases = concept.word, inquiry.paraphrases
    asked = rows
    if side == "ceiling" and text:
        asked = renamed(rows, word, "")
    elif side == "floor" and inquiry.floor is None:
        unknown = "" if concept.classes else inquiry.unknown
        concept = replace(concept, word=unknown)
        asked, shown = renamed(rows, word, unknown), renamed(shown, word, unknown)
        paraphrases = (unknown,) if paraphrases else ()
    return Target(
        concept=concept,
        rows=asked,
        pictured=rows if side == "ceiling" else asked,
        shown=shown,
        retained=kept,
        elsewhere=renamed(rows, word, other_word(inquiry.concept)),
        paraphrases=paraphrases,
        sampler=inquiry.sampler,
        judge=judge,
        named=side != "ceiling" or not text,
        batch=inquiry.batch,
        bound=side in BOUNDS,
    )


def _numbered(prompts: Sequence[str]) -> tuple[Row, ...]:
    return tuple(Row(i, prompt, PROMPT_SEEDS + SPACING * i) for i, prompt in enumerate(prompts))


def renamed(rows: Sequence[Request], word: str, other: str) -> list[Request]:
    """The rows with another word in the place of a name, whatever its case; "" takes it out.

    A prompt that does not say the name stays as it is.
    """
    # At the beginning of a word: "ink" is not in "pink", but "church" is in "churches".
    pattern = re.compile(rf"(?<!\w){re.escape(word)}", re.IGNORECASE)

    def said(prompt: str) -> str:
        if not pattern.search(prompt):
            return prompt
        return articles(" ".join(pattern.sub(other, prompt).split()))

    return [replace(row, prompt=said(row.prompt)) for row in rows]


def other_word(concept: Concept) -> str:
    """What stands for a wrong concept: a neighbour, which erasing does not aim at, or the anchor.

    Raises:
        UserError: there is neither.
    """
    for name in (*concept.neighbours, *((concept.anchor,) if concept.anchor else ())):
        found = anchor_of(concept, name)
        if found.word != concept.word:
            return found.word
    raise UserError(
        f"{concept.name} has no neighbours and no anchor, so there is no wrong concept to hold "
        "attacks against: give a concept file with one of them."
    )
