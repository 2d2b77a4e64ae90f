"""What else erasing may damage: prompts that nobody asked to change, in three groups.

neighbour   prompts close to the concept, likely to be damaged with it
general     everyday captions
empty       the empty prompt, which guidance subtracts from every image
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from erase.concepts import PROMPT_SEEDS, Concept, belongs, list_concepts, load_concept
from erase.sets import SPACING, Row, load_set

GROUPS = ("neighbour", "general", "empty")
"""Roles of the images, which count towards no accuracy."""
GENERAL = "everyday"
"""Prompt set of the general group."""
SHIFT = 300_000_000
"""Added to the seeds, so that no image is one of training or of the other evaluation sets."""


def neighbour_rows(concept: Concept, override: str | None = None) -> tuple[Row, ...]:
    """The concept's prompts with its neighbours in its place, the neighbours taking turns.

    Args:
        concept: what is erased.
        override: a prompt set or CSV file instead of the concept's own neighbours.

    Raises:
        UserError: unknown set.
    """
    if override is not None:
        own = [r for r in load_set(override).rows if not belongs(r.prompt, r.labels, concept)]
        return tuple(replace(r, seed=r.seed + SHIFT) for r in own)
    filled = []
    for name in concept.neighbours:
        known = load_concept(f"{concept.family}/{name}") if _is_member(name, concept) else None
        labels = {}
        if known is not None and known.axis is not None and known.label is not None:
            labels = {known.axis: known.label}
        filled.append([(prompt, labels) for prompt in concept.fill(known.word if known else name)])
    turns = [prompts[i] for i in range(max(map(len, filled), default=0)) for prompts in filled]
    return tuple(
        Row(i, prompt, PROMPT_SEEDS + SHIFT + i * SPACING, labels)
        for i, (prompt, labels) in enumerate(turns)
    )


def _is_member(name: str, concept: Concept) -> bool:
    return concept.family is not None and f"{concept.family}/{name}" in list_concepts()


def group_rows(
    concept: Concept, retain: str | None = None, neighbours: str | None = None
) -> Mapping[str, tuple[str, Sequence[Row]]]:
    """By group, the name of its prompt set and its rows; a group may have none.

    Args:
        concept: what is erased.
        retain: prompt set given instead of the concept's own.
        neighbours: prompt set given instead of the concept's own neighbours.

    Raises:
        UserError: unknown set.
    """
    # Never the name of another set of the run, whose folder it would share.
    near = f"neighbours-{Path(neighbours).stem}" if neighbours else "neighbours"
    general: list[Row] = []
    # Where everyday captions are the retained prompts, they are judged already.
    if GENERAL not in (retain or concept.retain, concept.evaluation):
        general = [
            replace(r, seed=r.seed + SHIFT)
            for r in load_set(GENERAL).rows
            if not belongs(r.prompt, r.labels, concept)
        ]
    empty = [Row(0, "", PROMPT_SEEDS + SHIFT - SPACING)]
    return {
        "neighbour": (near, neighbour_rows(concept, neighbours)),
        "general": (f"general-{GENERAL}", general),
        "empty": ("empty-prompt", empty),
    }
