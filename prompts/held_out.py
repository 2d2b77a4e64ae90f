"""Which prompts train, and which are held out to be judged: no retained prompt does both, but for
the classes of a model that is told nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import replace

from erase.prompts.classes import class_rows
from erase.prompts.concept import EVERYDAY, PROMPT_SEEDS, Concept, belongs
from erase.prompts.prompt_set import SPACING, Row, list_sets, load_set
from erase.runtime.errors import UserError
from erase.runtime.files import digest
from erase.runtime.words import fold

EVALUATION_SHIFT = 200_000_000
"""Added to the seeds of rows that serve both training and evaluation, so that images differ."""
FEW = 8
"""Retained prompts below which all train, and everyday captions are judged instead."""
EVERYDAY_JUDGED = (
    f"Fewer than {FEW} retained prompts are left without the concept's own, so all of them are "
    "trained on, and everyday captions are judged in their place."
)
"""What is said of that."""


def retain_rows(concept: Concept, override: str | None = None) -> tuple[Row, ...]:
    """The prompts to keep while training; none of them is judged.

    Left out are rows with the concept's own label, rows marked ``tuning``, for a concept without a
    label prompts that contain its words, and what ``evaluation_rows`` and ``general_rows`` hold
    out.

    Args:
        concept: what is erased.
        override: a prompt set or CSV file instead of the concept's own.

    Raises:
        UserError: unknown set, or nothing is left.
    """
    kept = _kept(concept, override)
    if concept.classes:
        return kept
    judged = {fold(r.prompt) for r in (*_held_out(concept, kept), *_general(concept, kept))}
    return tuple(row for row in kept if fold(row.prompt) not in judged)


def evaluation_rows(
    concept: Concept, override: str | None = None
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The prompts (forget, retain) that are judged; no retained one was trained on.

    Rows of the evaluation set with the concept's label are forget, the others retained. Rows
    marked ``tuning`` are left out, unless the concept itself is for tuning and they are its own.
    A concept without an evaluation set is asked by its own prompts, with other seeds than in
    training, and by every second one of its retained prompts, which training does not see; by
    everyday captions where it has fewer than 8. A class is judged by its name and those of the
    others, with other seeds than in training.

    Args:
        concept: what is erased.
        override: retain set of a concept without an evaluation set, as for ``retain_rows``.

    Raises:
        UserError: the evaluation set lacks the axis or the label.
    """
    if concept.classes:
        asked = [r for r in class_rows(concept) if _belongs(r, concept)]
        return _later(asked), _later(_kept(concept, override))
    held = _held_out(concept, _kept(concept, override))
    if concept.evaluation is None:
        return _numbered(concept.prompts(), PROMPT_SEEDS + EVALUATION_SHIFT), _later(held)
    rows = _rows(concept.evaluation)
    own = tuple(r for r in rows if _belongs(r, concept) and (concept.tuning or not _is_tuning(r)))
    if not own or not held:
        raise UserError(
            f"The prompt set '{concept.evaluation}' has no {'rows' if not own else 'other rows'} "
            f"with {concept.axis} = '{concept.label}': add them or fix '{concept.name}'."
        )
    return own, held


def all_are_trained_on(concept: Concept, override: str | None = None) -> bool:
    """Whether the retained prompts are so few that all of them train, and everyday captions are
    judged in their place; arguments and errors as ``retain_rows``."""
    if concept.classes or concept.evaluation is not None:
        return False
    return len({fold(row.prompt) for row in _kept(concept, override)}) < FEW


def in_turn(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with their labellings taking turns: of a file sorted by class, the first of them
    would be of one class alone. Which labelling comes first is drawn by its hash."""
    seen: Counter[str] = Counter()
    keyed = []
    for row in rows:
        labels = digest(dict(row.labels))
        keyed.append((seen[labels], labels, row))
        seen[labels] += 1
    return tuple(row for *_, row in sorted(keyed, key=lambda one: one[:2]))


def _rows(name: str) -> tuple[Row, ...]:
    """The rows of a set; those of the package are mixed already."""
    rows = load_set(name).rows
    return rows if name in list_sets() else in_turn(rows)


def _later(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with other seeds than in training."""
    return tuple(replace(r, seed=r.seed + EVALUATION_SHIFT) for r in rows)


def _kept(concept: Concept, override: str | None) -> tuple[Row, ...]:
    """What may stay: the retain set without the concept's own prompts and those for tuning."""
    source = override or concept.retain
    if concept.classes:
        rows = class_rows(concept, override)
        rows = rows if override is None else in_turn(rows)
    else:
        rows = _rows(source) if isinstance(source, str) else _numbered(source, PROMPT_SEEDS)
    kept = tuple(r for r in rows if not _is_tuning(r) and not _belongs(r, concept))
    if not kept:
        raise UserError(
            f"Every prompt in '{source}' belongs to the concept '{concept.name}' or to tuning: "
            "choose another prompt set to retain."
        )
    return kept


def _held_out(concept: Concept, kept: Sequence[Row]) -> tuple[Row, ...]:
    """The retained rows that are judged and kept from training: of the evaluation set; without
    one, of the retained prompts, or of everyday captions where those are few."""
    trained = {fold(row.prompt) for row in kept}
    if concept.evaluation is not None:
        every = _rows(concept.evaluation)
        asked = [r for r in every if not _belongs(r, concept) and not _is_tuning(r)]
    elif len(trained) < FEW:
        return _general(concept, kept)
    else:
        asked = list(kept)
    return _spared(asked, trained)


def general_rows(concept: Concept, override: str | None = None) -> tuple[Row, ...]:
    """Everyday captions that training does not see; arguments and errors as ``retain_rows``."""
    return _general(concept, _kept(concept, override))


def _general(concept: Concept, kept: Sequence[Row]) -> tuple[Row, ...]:
    if concept.classes:
        return ()
    asked = [r for r in load_set(EVERYDAY).rows if not _belongs(r, concept)]
    return _spared(asked, {fold(row.prompt) for row in kept})


def _spared(asked: Sequence[Row], trained: Set[str]) -> tuple[Row, ...]:
    """Rows without the prompts to train on, of which half are spared where they are most.

    Rows of one labelling are spared in turn, and of a grid of labels every second field: each
    label stays on both sides where it can.
    """
    prompts = {fold(row.prompt): row for row in reversed(asked)}
    both = [row for prompt, row in reversed(prompts.items()) if prompt in trained]
    dropped = {fold(row.prompt) for row in both}
    if 2 * len(both) > len(prompts):
        ranks: dict[str, dict[str, int]] = {}
        seen: Counter[tuple[tuple[str, str], ...]] = Counter()
        for row in both:
            labels = tuple(sorted(row.labels.items()))
            places = [ranks.setdefault(a, {}).setdefault(v, len(ranks[a])) for a, v in labels]
            if (sum(places) + seen[labels]) % 2:
                dropped.discard(fold(row.prompt))
            seen[labels] += 1
    return tuple(row for row in asked if fold(row.prompt) not in dropped)


def _numbered(prompts: Sequence[str], seed: int) -> tuple[Row, ...]:
    return tuple(Row(i, prompt, seed + i * SPACING) for i, prompt in enumerate(prompts))


def _is_tuning(row: Row) -> bool:
    return row.labels.get("tuning") == "1"


def _belongs(row: Row, concept: Concept) -> bool:
    return belongs(row.prompt, row.labels, concept)
