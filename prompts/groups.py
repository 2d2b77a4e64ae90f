"""What else erasing may damage: prompts that nobody asked to change, in three groups.

neighbour   prompts close to the concept, likely to be damaged with it
general     everyday captions, those that were not trained on
empty       the empty prompt, which guidance subtracts from every image
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from erase.prompts.classes import class_rows
from erase.prompts.concept import (
    EVERYDAY,
    PROMPT_SEEDS,
    Concept,
    articles,
    belongs,
    list_concepts,
    load_concept,
)
from erase.prompts.held_out import evaluation_rows, general_rows
from erase.prompts.prompt_set import SPACING, Row, load_set

GROUPS = ("neighbour", "general", "empty")
"""Roles of the images, which count towards no accuracy."""
WORDINGS = {
    "object": ("a picture of a {}", "a close-up of a {}", "a {} in the distance"),
    "style": ("a picture in the style of {}", "artwork in the style of {}"),
    "person": ("a picture of {}", "a portrait of {}"),
    "nudity": ("a picture of a {}", "a snapshot of a {}"),
}
"""By kind, templates for the neighbours of concepts without an evaluation set of their own."""
SHIFT = 300_000_000
"""Added to the seeds, so that no image is one of training or of the other evaluation sets."""


def neighbour_rows(concept: Concept, override: str | None = None) -> tuple[Row, ...]:
    """Prompts with the concept's neighbours in its place, the neighbours taking turns, in wordings
    that training does not use.

    Args:
        concept: what is erased.
        override: a prompt set or CSV file instead of the concept's own neighbours.

    Raises:
        UserError: unknown set.
    """
    if override is not None:
        rows = class_rows(concept, override) if concept.classes else load_set(override).rows
        own = [r for r in rows if not belongs(r.prompt, r.labels, concept)]
        return tuple(replace(r, seed=r.seed + SHIFT) for r in own)
    templates = _held_out_templates(concept) if concept.neighbours else ()
    filled = []
    for name in concept.neighbours:
        known = _member(name, concept)
        labels = {}
        if known is not None and known.axis is not None and known.label is not None:
            labels = {known.axis: known.label}
        word = neighbour_word(name, concept)
        filled.append([(articles(t.replace("{}", word)), labels) for t in templates])
    turns = [prompts[i] for i in range(len(templates)) for prompts in filled]
    return tuple(
        Row(i, prompt, PROMPT_SEEDS + SHIFT + i * SPACING, labels)
        for i, (prompt, labels) in enumerate(turns)
    )


def _held_out_templates(concept: Concept) -> tuple[str, ...]:
    """Wordings of the concept's evaluation prompts, or general ones, that training does not use."""
    asked = [row.prompt for row in evaluation_rows(concept)[0]] if concept.evaluation else []
    word = re.compile(rf"\b{re.escape(concept.word)}\b", re.IGNORECASE)
    found = [word.sub("{}", prompt) for prompt in asked]
    if any(template.count("{}") != 1 for template in found):
        found = []  # scenes of their own rather than wordings for the concept's word
    trained = {articles(template) for template in concept.templates}
    for offered in (found, WORDINGS.get(concept.kind, ())):
        left = tuple(t for t in dict.fromkeys(offered) if articles(t) not in trained)
        if left:
            return left
    return ()


def neighbour_word(name: str, concept: Concept) -> str:
    """What a neighbour is called in a prompt: a concept of the same family by its word, anything
    else as it stands."""
    known = _member(name, concept)
    return known.word if known else name


def _member(name: str, concept: Concept) -> Concept | None:
    full = f"{concept.family}/{name}"
    return load_concept(full) if concept.family is not None and full in list_concepts() else None


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
    general = [replace(r, seed=r.seed + SHIFT) for r in general_rows(concept, retain)]
    empty = [Row(0, "", PROMPT_SEEDS + SHIFT - SPACING)]
    return {
        "neighbour": (near, neighbour_rows(concept, neighbours)),
        "general": (f"general-{EVERYDAY}", general),
        "empty": ("empty-prompt", empty),
    }


Role = Literal["forget", "retain", "anchor"]
