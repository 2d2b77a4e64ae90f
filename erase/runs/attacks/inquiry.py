"""What is attacked, and how, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from erase.eval.attacks import Size, list_attacks, load_attack
from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.formats.base import never_knew
from erase.images.request import Sampler
from erase.prompts.concept import Concept
from erase.runs.attacks import NO_MODEL, SEEDS, UNKNOWN
from erase.runs.make import concept_of
from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.seeding import checked_seed
from erase.runtime.tables import read_text

ROWS = {"quick": 20, "full": 60, "published": 142}
"""Images of a side, by budget."""


@dataclass(frozen=True, eq=False)
class Inquiry:
    """An attack on a model.

    Attributes:
        model: what is attacked.
        base: what it was erased from.
        concept: what was erased.
        attacks: their names, in the order in which they are made.
        sampler: how images are made.
        strength: of a model that is an edit of the base, such as a LoRA; None of a whole one.
        budget: what they may spend.
        floor: a model that never knew the concept; None asks the base by a made-up name,
            or for no class.
        unknown: the made-up name by which the base is asked then.
        seed: of the attacks' draws and of the images, >= 0; bounds have their own.
        out: folder of the results.
        batch: images at a time.
        instruments: the judge, and what counts as nudity.
        strict: spec of a second judge that has to agree; None takes the bundled model's own, and of
            other models none.
        paraphrases: prompts that ask for the concept in other words.
        retain: prompt set of what is not the concept, which the judge has to tell apart from it and
            attackers have pictures of; None takes the concept's own.
        device, deterministic: where it computes.
        facts: kept beside the results, as JSON; ``made_by`` is the hash of what a run's training
            read, by which the run's report knows the attacks as its own.
    """

    model: str
    base: str
    concept: Concept
    attacks: tuple[str, ...]
    sampler: Sampler
    strength: float | None = None
    budget: Size = "quick"
    floor: str | None = None
    unknown: str = UNKNOWN[0]
    seed: int = 1
    out: Path = Path("runs/attack")
    batch: int = 8
    instruments: Instruments = UNNAMED
    strict: str | None = None
    paraphrases: tuple[str, ...] = ()
    retain: str | None = None
    device: str = "auto"
    deterministic: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Images of a side."""
        return ROWS[self.budget]


def make_inquiry(
    model: str,
    base: str,
    concept: str,
    sampler: Sampler,
    *,
    paraphrases: Path | None = None,
    anchor: str | None = None,
    **more: Any,
) -> Inquiry:
    """Checks what was asked for.

    Args:
        model, base, concept, sampler: see ``Inquiry``.
        paraphrases: file of prompts, one a line, instead of the concept's own.
        anchor: what the concept was made to become, "" the empty prompt; None takes its own.
        more: further fields of the inquiry; no attacks are all, and no floor is the bundled model
            that never knew the concept, where there is one; ``none`` is none all the same.

    Raises:
        UserError: naming what is wrong.
    """
    sizes = get_args(Size)
    budget, seed = more.get("budget", "quick"), more.get("seed", 1)
    if budget not in sizes:
        raise UserError(
            f"There is no budget '{clipped(budget)}': choose from {', '.join(sizes)}."
            f"{nearest(budget, sizes)}"
        )
    checked_seed(seed, SEEDS)
    found = concept_of(concept, base)
    found = replace(found, anchor=found.anchor if anchor is None else anchor)
    names = tuple(dict.fromkeys(more.pop("attacks", ()) or list_attacks()))
    for name in names:
        load_attack(name)
    told = found.paraphrases
    if paraphrases is not None:
        lines = read_text(paraphrases, "The list of paraphrases").splitlines()
        told = tuple(line.strip() for line in lines if line.strip())
        if not told:
            raise UserError(f"{paraphrases} is empty: write one paraphrase a line.")
    floor = more.pop("floor", None) or never_knew(base, found.name)
    floor = None if floor == NO_MODEL else floor
    return Inquiry(model, base, found, names, sampler, floor=floor, paraphrases=told, **more)
