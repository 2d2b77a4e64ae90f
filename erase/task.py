"""A run as asked for: which model, concept, recipe and judges, in which folder.

Where erasing meets evidence: a task knows the images that the report will need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase import processes
from erase.concepts import Concept, load_concept, members
from erase.errors import UserError
from erase.files import digest
from erase.held_out import evaluation_rows
from erase.included import identity, settings
from erase.job import SAMPLING_KEYS, Job, Target, check_settings, inputs, slug
from erase.methods import load_method
from erase.over_erasure import group_rows
from erase.recipe import Recipe, as_dict, default_recipe, load_recipe, recipe_for
from erase.runs import Plan, versions
from erase.specs import UNNAMED, Instruments
from erase.words import fold

if TYPE_CHECKING:
    from erase.images import Request
    from erase.sets import Row


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


def requests(job: Job, shift: int = 0) -> dict[str, list[Request]]:
    """The evaluation images of each side, those of several concepts together.

    Args:
        job: the run.
        shift: added to all seeds.
    """
    found: dict[str, dict[tuple[str, str], Request]] = {}
    for number in range(len(job.targets)):
        for side, rows in requests_of(job, number, shift).items():
            for row in rows:
                if found.setdefault(side, {}).setdefault((row.set, row.file), row) != row:
                    raise UserError(
                        f"Two different prompt sets are called '{row.set}': rename one of them."
                    )
    return {side: list(rows.values()) for side, rows in found.items()}


def deciding(job: Job, shift: int = 0) -> dict[str, list[Request]]:
    """The requests by which runs are told apart; arguments as for ``requests``.

    The second base set's everyday captions repeat the first one's, which are counted there: what
    was finished without them stays finished.
    """
    return {
        side: [r for r in rows if side != "base2" or r.role != "general"]
        for side, rows in requests(job, shift).items()
    }


def requests_of(job: Job, number: int, shift: int = 0) -> dict[str, list[Request]]:
    """The evaluation images of each side for one of the run's concepts.

    The first side of the base model and the erased model's hold the forget and the retained prompts
    and what else may be damaged; ``base2`` repeats the retained ones and the everyday captions
    with other seeds.

    Args:
        job: the run.
        number: of one of its concepts, from 0; prompts of the others are not retained.
        shift: added to all seeds.
    """
    from erase.eval.generate import OTHER_SEEDS, plan

    recipe, concept = job.recipe, job.targets[number].concept
    own = Path(concept.evaluation or "").stem  # a set may be a CSV file
    forget, retain = evaluation_rows(concept, job.retain)
    # Prompts that are in no set have no numbers that tell those of one concept from another's.
    mine, others = own or "concept", own or "retained"
    place = job.places()[number]
    if job.also and not own:
        mine = f"concept-{place}"
        others = "retained" if job.retain else f"retained-{place}"
    trained = job.trained_prompts()

    def held_out(rows: Sequence[Row]) -> tuple[Row, ...]:
        """Rows of no concept to forget that were not trained on."""
        return tuple(
            r for r in rows if fold(r.prompt) not in trained and not job.forgets(r.prompt, r.labels)
        )

    retain = held_out(retain)
    if not retain:
        raise UserError(
            f"No retained prompt is left to judge {job.name} by: all are trained on or name what "
            "is to be forgotten. Give another --retain."
        )
    kept = plan(retain, recipe.eval_retain, others, "retain", shift)
    both = [*plan(forget, recipe.eval_forget, mine, "forget", shift), *kept]
    other = plan(retain, recipe.eval_retain, others, "retain", shift + OTHER_SEEDS)
    counts = {"neighbour": recipe.eval_neighbours, "general": recipe.eval_general}
    counts["empty"] = recipe.eval_empty
    for group, (name, rows) in group_rows(concept, job.retain, job.neighbours).items():
        if group != "empty":
            rows = held_out(rows)
        if job.also:
            name = f"{name}-{place}" if group == "neighbour" else name
        count = counts[group] if rows else 0
        both += plan(rows, count, name, group, shift)
        if group == "general":
            other += plan(rows, count, name, group, shift + OTHER_SEEDS)
    return {"base": both, "base2": other, "erased": both}


def make_plan(task: Task, model: Mapping[str, str]) -> Plan:
    """What every stage of the task reads, hashed."""
    job = task.job
    flat = as_dict(job.recipe)
    sampling = {k: flat[k] for k in SAMPLING_KEYS}
    asked = {
        side: digest([vars(r) | {"labels": dict(r.labels)} for r in rows])
        for side, rows in deciding(job, task.eval_shift).items()
    }
    training = inputs(job, model)
    if task.included:
        given = {"model": dict(model), "included": identity(task.included)}
        training = dict.fromkeys(training, given)
    return Plan(
        {
            **training,
            "base": {
                "model": dict(model),
                **sampling,
                "requests": [asked["base"], asked["base2"]],
            },
            "erased": {**sampling, "requests": asked["erased"]},
            "eval": {
                "concept": [asdict(target.concept) for target in job.targets],
                "anchor": [asdict(target.anchor) for target in job.targets],
                **task.instruments.identities(target.concept for target in job.targets),
            },
        }
    )


def describe(task: Task, model: Mapping[str, str], device: str) -> dict[str, Any]:
    """The facts of ``run.json`` besides the stages."""
    job = task.job
    return {
        "model": {"source": task.model, "fingerprint": dict(model)},
        "concept": job.name,
        "anchor": " + ".join(target.anchor.name for target in job.targets),
        "kind": job.concept.kind,
        "seed": job.seed,
        "recipe": settings(job.recipe, task.included) if task.included else as_dict(job.recipe),
        "pairs": [list(p) for p in job.pairs()],
        "given": {
            "concept": task.concept,
            "anchor": task.anchor,
            "retain": job.retain,
            "neighbours": job.neighbours,
            **task.instruments.given(),
            "forget_folder": str(job.forget_folder) if job.forget_folder else None,
            "retain_folder": str(job.retain_folder) if job.retain_folder else None,
        },
        "device": device,
        "processes": processes.count(),
        "deterministic": task.compute.deterministic,
        "channels_last": task.compute.channels_last,
        "compiled": task.compute.compiled,
        "versions": versions(),
    }


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
