"""A run as asked for: which model, concept, recipe and judges, in which folder.

Where erasing meets evidence: a task knows the images that the report will need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.methods import load_method
from erase.prompts.concept import Concept, load_concept, members
from erase.recipes.recipe import Recipe, default_recipe, load_recipe, recipe_for
from erase.runs.checks import check_settings
from erase.runs.job import Job, Target, slug
from erase.runtime.errors import UserError

MAX_SEED = 2**63
"""Seeds of runs lie below: what torch's generators and every reader of run.json hold exactly."""


@dataclass(frozen=True)
class Compute:
    """Where and how the networks are run.

    Attributes:
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        deterministic: have the device repeat itself bit by bit.
        channels_last, compiled: see ``diffusion.Diffusion``.
    """

    device: str = "auto"
    deterministic: bool = False
    channels_last: bool = False
    compiled: bool = False


AUTO = Compute()


@dataclass(frozen=True)
class Task:
    """One run as asked for on the command line.

    Attributes:
        model: ``mini``, a hub id, a diffusers folder or a single file.
        job: what is erased and how.
        out: the run folder.
        concept, anchor: as they were typed, to be taken up again from the folder; lists where
            several concepts are erased together.
        instruments: what the images are measured with.
        compute: where and how the networks are run.
        shared: folder in which runs find each other's images of the base model, and what was
            measured on them.
        included: a model that others erased, measured instead of one that is trained here.
        eval_shift: added to the seeds of all evaluation images.
    """

    model: str
    job: Job
    out: Path
    concept: str | list[str]
    anchor: str | list[str]
    instruments: Instruments = UNNAMED
    compute: Compute = AUTO
    shared: Path | None = None
    included: Path | None = None
    eval_shift: int = 0


def family(model: str) -> str | None:
    """The family in which a model's short concept names are looked up."""
    return "mini" if model == "mini" else None


def make_task(
    model: str,
    concept: str | Sequence[str],
    anchor: str | Sequence[str | None] | None = None,
    recipe: str | Recipe | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    forget_folder: str | Path | None = None,
    retain_folder: str | Path | None = None,
    retain: str | None = None,
    neighbours: str | None = None,
    instruments: Instruments = UNNAMED,
    compute: Compute = AUTO,
    shared: str | Path | None = None,
) -> Task:
    """Checks what the user asked for; several concepts are erased together.

    Raises:
        UserError: an unknown name or a value out of range, not an anchor for each concept, or
            concepts that have different recipes by default.
    """
    home = family(model)
    typed = [concept] if isinstance(concept, str) else list(concept)
    if not typed:
        raise UserError("No concept was given: name at least one.")
    wanted = [anchor] if anchor is None or isinstance(anchor, str) else list(anchor)
    if len(wanted) not in (1, len(typed)):
        raise UserError(
            f"{len(wanted)} anchors were given for {len(typed)} concepts: give one for all, or one "
            "for each."
        )
    concepts = [load_concept(name, home) for name in typed]
    target = concepts[0]
    settings = (
        recipe
        if isinstance(recipe, Recipe)
        else load_recipe(
            recipe_for(recipe or _common_recipe(model, concepts), model), overrides or {}
        )
    )
    needed = load_method(settings.method).NEEDS.anchor
    chosen = [
        _anchor(one, own, needed)
        for one, own in zip(concepts, wanted * (len(typed) // len(wanted)), strict=True)
    ]
    targets = [
        Target(one, load_concept(own, one.family or home))
        for one, own in zip(concepts, chosen, strict=True)
    ]
    job = Job(
        recipe=settings,
        concept=target,
        anchor=targets[0].anchor,
        also=tuple(targets[1:]),
        seed=seed,
        forget_folder=Path(forget_folder) if forget_folder else None,
        retain_folder=Path(retain_folder) if retain_folder else None,
        retain=retain,
        neighbours=neighbours,
    )
    check_settings(job)
    names = (model, "-".join(slug(one.name) for one in concepts), settings.name)
    default = Path("runs") / "-".join([*map(slug, names), str(seed)])
    if not 0 <= seed < MAX_SEED:
        wrong = "negative" if seed < 0 else "too large"
        raise UserError(f"The seed {seed} is {wrong}: give one from 0 to 2^63 - 1.")
    place = Path(out) if out else default
    pool = Path(shared) if shared else None
    return Task(
        model,
        job,
        place,
        typed if len(typed) > 1 else typed[0],
        chosen if len(typed) > 1 else chosen[0],
        instruments,
        compute,
        shared=pool,
    )


def _common_recipe(model: str, concepts: Sequence[Concept]) -> str:
    own = {default_recipe(model, concept): concept.name for concept in concepts}
    if len(own) > 1:
        of = ", ".join(f"{recipe} for '{concept}'" for recipe, concept in own.items())
        raise UserError(f"The concepts have different recipes of their own ({of}): give --recipe.")
    return next(iter(own))


def _anchor(concept: Concept, given: str | None, needed: bool) -> str:
    """What was given, the concept's own, or none where the method needs none."""
    chosen = given if given is not None else concept.anchor
    if chosen is None and needed:
        raise UserError(
            f"The concept '{concept.name}' has no anchor of its own: give one with --anchor "
            '(--anchor "" remaps it to the empty prompt).'
        )
    return chosen or ""


def each(task: Task, anchors: bool) -> list[Task]:
    """One task per member of the model's family, each in a folder of its own below ``out``.

    Args:
        task: of any member.
        anchors: whether its anchor is that of all; the anchor itself, and concepts of another
            kind, keep their own.
    """
    home = family(task.model)
    if home is None:
        raise UserError("--concept all needs a family of concepts: it works with --model mini.")
    tasks = []
    for concept in members(home):
        anchor, typed = task.job.anchor, task.anchor
        fits = anchor.kind in ("text", concept.kind) and anchor.name != concept.name
        if not anchors or not fits:
            assert concept.anchor is not None
            anchor, typed = load_concept(concept.anchor, home), concept.anchor
        job = replace(task.job, concept=concept, anchor=anchor)
        job.pairs()
        place = task.out / slug(concept.name)
        tasks.append(replace(task, job=job, out=place, concept=concept.name, anchor=typed))
    return tasks
