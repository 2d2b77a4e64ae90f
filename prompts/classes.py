"""Classes of a model that is told nothing else: each is a concept, and its name the only prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from erase.prompts.concept import CLASS, PROMPT_SEEDS, Concept, load_concept
from erase.prompts.prompt_set import SPACING, Row, load_set
from erase.runtime.errors import UserError, clipped, nearest

CLASS_AXIS = "object"
"""Column of the labels of classes, on which judges recognise them."""


def class_concept(name: str, classes: Sequence[str], judge: str | None = None) -> Concept:
    """A class of a model as a concept; it becomes the class after it where no anchor is given, as
    published for SalUn.

    Args:
        name: ``class:church``.
        classes: that the model is told, by label.
        judge: default judge.

    Raises:
        UserError: no class, or none of the model's.
    """
    word = name.removeprefix(CLASS)
    if word == name:
        near = f" Did you mean '{CLASS}{name}'?" if name in classes else ""
        raise UserError(
            f"'{clipped(name)}' is no class, and the model is told nothing else: give "
            f"{CLASS}NAME.{near}"
        )
    if word not in classes:
        raise UserError(
            f"The model has no class '{clipped(word)}'.{nearest(word, classes)} Choose one of its "
            f"{len(classes)} classes."
        )
    after = classes[(classes.index(word) + 1) % len(classes)]
    return Concept(
        name=name,
        kind="class",
        word=word,
        axis=CLASS_AXIS,
        label=word,
        retain=tuple(c for c in classes if c != word),
        anchor=f"{CLASS}{after}" if after != word else None,
        judge=judge,
        classes=tuple(classes),
    )


def anchor_of(concept: Concept, name: str, family: str | None = None) -> Concept:
    """What a concept becomes, by name; of a class another one, or "" for the null class.

    Args:
        concept: what is erased.
        name: of the anchor, as for ``load_concept``.
        family: whose short names are found where the concept is of none.

    Raises:
        UserError: see ``load_concept`` and ``class_concept``.
    """
    if concept.classes and name:
        return class_concept(name, concept.classes)
    return load_concept(name, concept.family or family)


def class_rows(concept: Concept, override: str | None = None) -> tuple[Row, ...]:
    """The classes of a class's model as prompts, labelled by themselves; or those of a set.

    Raises:
        UserError: unknown set, or a prompt in it that is no class.
    """
    numbered = enumerate(concept.classes)
    own = tuple(Row(i, name, PROMPT_SEEDS + i * SPACING) for i, name in numbered)
    rows = own if override is None else load_set(override).rows
    for row in rows:
        if row.prompt not in concept.classes:
            raise UserError(
                f"The prompt set '{override}' has the prompt '{clipped(row.prompt)}', which is no "
                f"class of the model.{nearest(row.prompt, concept.classes)} Name classes."
            )
    return tuple(replace(r, labels={CLASS_AXIS: r.prompt} | dict(r.labels)) for r in rows)
