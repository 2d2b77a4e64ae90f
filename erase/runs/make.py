"""A run from what the user asked for, anew or where a folder was left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from erase.eval.instruments.choice import Instruments
from erase.methods import edits, load_method
from erase.prompts.classes import anchor_of, class_concept
from erase.prompts.concept import CLASS, Concept, load_concept, members
from erase.recipes.choice import default_recipe, recipe_for
from erase.recipes.recipe import Recipe, load_recipe, recorded_recipe, written
from erase.runs.checks import check_settings
from erase.runs.folder import RECORD, read_facts
from erase.runs.run import OWN, ROLES, Compute, Run, Sources, Target, places, slug
from erase.runtime.errors import UserError, clipped, reason
from erase.runtime.files import MODELS
from erase.runtime.seeding import checked_seed


def family(model: str) -> str | None:
    """The family in which a model's short concept names are looked up."""
    return "mini" if model == "mini" else None


def concept_of(name: str, model: str) -> Concept:
    """What a name means with a model: a class of it, a concept or free text.

    Raises:
        UserError: see ``load_concept`` and ``class_concept``; a class of a model that is told
            texts, or whose classes can't be had.
    """
    from erase.formats.generation import classes_of_model

    told = None
    # A model of the hub is not asked for what it is told where the name says it.
    if model and (name.startswith(CLASS) or Path(model).is_dir() or model in MODELS):
        told = classes_of_model(model)
    if told is None:
        return load_concept(name, family(model))
    # Its classes are the drawn world's objects, which the bundled judges tell apart.
    return class_concept(name, told.names, judge="mini" if model in MODELS else None)


def own_sampling(model: str, recipe: str) -> Mapping[str, Any]:
    """Settings by which a model's authors sample from it, where a class-conditional one states
    them: they go before a recipe's that was not written for this model, but not before what a file
    of the user's states.

    Args:
        model: of classes; a hub id is asked for.
        recipe: its name or file, see ``recipe_for``.

    Raises:
        UserError: see ``formats.generation.classes_of_model``.
    """
    from erase.formats.generation import classes_of_model

    if model in MODELS and recipe.endswith(f"-{model}"):
        return {}
    told = classes_of_model(model)
    if told is None:
        return {}
    stated = written(recipe) if recipe.endswith(".toml") else ()
    return {key: value for key, value in told.sampling.items() if key not in stated}


def of_classes(model: str, concepts: Sequence[str]) -> bool:
    """Whether concepts, as they were typed, are classes of a model."""
    every = tuple(concepts) == ("all",) and family(model) is None
    return every or model in MODELS or any(name.startswith(CLASS) for name in concepts)


def every_concept(model: str) -> list[Concept]:
    """The concepts of a model's family, or its classes.

    Raises:
        UserError: it has neither.
    """
    home = family(model)
    if home is not None:
        return members(home)
    from erase.formats.generation import classes_of_model

    told = classes_of_model(model)
    if told is None:
        raise UserError(
            "--concept all needs a family of concepts, or classes: it works with --model mini and "
            "with models that are told classes."
        )
    # The bundled model's recipes were chosen on the classes that tables leave out.
    tuning = {c.label for c in members("mini", tuning=True)} if model == "mini-class" else set()
    return [concept_of(f"{CLASS}{name}", model) for name in told.names if name not in tuning]


def make_run(
    model: str,
    concept: str | Sequence[str],
    anchor: str | Sequence[str | None] | None = None,
    recipe: str | Recipe | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    sources: Sources = OWN,
) -> Run:
    """Checks what the user asked for; several concepts are erased together.

    Raises:
        UserError: an unknown name or a value out of range, not an anchor for each concept, or
            concepts that have different recipes by default.
    """
    if not concept and not isinstance(concept, str):
        raise UserError("No concept was given: name at least one.")
    typed = [concept] if isinstance(concept, str) else list(concept)
    wanted = [anchor] if anchor is None or isinstance(anchor, str) else list(anchor)
    if len(wanted) not in (1, len(typed)):
        raise UserError(
            f"{len(wanted)} anchors were given for {len(typed)} concepts: give one for all, or one "
            "for each."
        )
    concepts = [concept_of(name, model) for name in typed]
    if not isinstance(recipe, Recipe):
        name = recipe_for(recipe or _common_recipe(model, concepts), model)
        usual = own_sampling(model, name) if concepts[0].classes else {}
        recipe = load_recipe(name, {**usual, **(overrides or {})})
    for role in ROLES:
        if sources.folder(role) and f"{role}_images" in (overrides or {}):
            raise UserError(
                f"--{role}-images has no effect beside --{role}-folder, of which every image is "
                "taken: leave one of them out."
            )
    needed = load_method(recipe.method).NEEDS.anchor
    named = (model, "-".join(slug(one.name) for one in concepts), recipe.name)
    run = Run(
        model=model,
        targets=tuple(
            _target(one, name, _anchor(one, own, needed), family(model))
            for one, name, own in zip(
                concepts, typed, wanted * (len(typed) // len(wanted)), strict=True
            )
        ),
        recipe=recipe,
        seed=seed,
        out=Path(out or Path("runs") / "-".join([*map(slug, named), str(seed)])),
        sources=sources,
    )
    check_settings(run)
    checked_seed(seed)
    return run


def _common_recipe(model: str, concepts: Sequence[Concept]) -> str:
    own = {default_recipe(model, concept): concept.name for concept in concepts}
    if len(own) > 1:
        of = ", ".join(f"{recipe} for '{concept}'" for recipe, concept in own.items())
        raise UserError(f"The concepts come with different recipes ({of}): give one --recipe.")
    return next(iter(own))


def _anchor(concept: Concept, given: str | None, needed: bool) -> str | None:
    """What was given, the concept's own, or None where the method needs none."""
    chosen = given if given is not None else concept.anchor
    if chosen is None and needed:
        raise UserError(
            f"The concept '{concept.name}' has no anchor of its own: give one with --anchor "
            '(--anchor "" remaps it to the empty prompt).'
        )
    return chosen


def _target(concept: Concept, name: str, anchor: str | None, home: str | None) -> Target:
    return Target(concept, anchor_of(concept, anchor or "", home), (name, anchor))


def check_edits(recipe: Recipe) -> None:
    """Refuses a recipe that leaves the model as it is.

    Raises:
        UserError: it is one.
    """
    if not edits(recipe.method):
        raise UserError(
            f"The recipe {recipe.name} guides sampling and leaves the model as it is, so there is "
            f"nothing to run: see how far it gets by 'erase compare --recipes {recipe.name}'."
        )


def resume(
    folder: Path, concept: str | Sequence[str] | None = None, recipe: str | None = None
) -> Run | None:
    """The run that a folder was begun with; None where it holds none, or one of other concepts.

    Args:
        folder: of the run.
        concept: what is asked for now; None is whatever the folder's is.
        recipe: taken instead of the folder's.

    Raises:
        UserError: a run.json that can't be read, or that names what is not there any more.
    """
    if not (folder / RECORD).exists():
        return None
    facts = read_facts(folder / RECORD)
    try:
        return _recorded(facts, folder, concept, recipe)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / RECORD} is damaged ({reason(error)}): choose another --out."
        ) from error


def _recorded(
    facts: Mapping[str, Any],
    folder: Path,
    concept: str | Sequence[str] | None,
    recipe: str | None,
) -> Run | None:
    given = facts.get("given", {})
    begun = given.get("concept") or facts.get("concept")
    if not begun or (concept and concept not in (begun, facts.get("concept"))):
        return None
    if recipe is None:
        kept = recorded_recipe(facts["recipe"])
    forget, retain = (Path(at) if (at := given.get(f"{r}_folder")) else None for r in ROLES[:2])
    sources = Sources(forget, retain, given.get("retain"), given.get("neighbours"))
    anchor = given.get("anchor")
    if not load_method(facts["recipe"]["method"]).NEEDS.anchor:
        # Some folders say "" where no anchor was given.
        anchor = [a or None for a in anchor] if isinstance(anchor, list) else anchor or None
    run = make_run(
        facts.get("model", {}).get("source") or "mini",
        begun,
        anchor,
        recipe or kept,
        int(facts.get("seed", 0)),
        folder,
    )
    return replace(
        run,
        sources=OWN.beside(sources, run.roles()),
        instruments=instruments_of(given),
        compute=Compute(
            channels_last=bool(facts.get("channels_last")), compiled=bool(facts.get("compiled"))
        ),
    )


def instruments_of(given: Mapping[str, Any]) -> Instruments:
    """What a run was measured with, from what its folder records as ``given``."""
    specs = {key: given.get(key) for key in ("judge", "clip", "features", "lpips")}
    counted = given.get("nudity")
    if not counted:
        return Instruments(**specs)
    from erase.eval.instruments.nudenet import Config

    return Instruments(**specs, nudity=Config(**counted))


def each(run: Run, anchors: bool) -> list[Run]:
    """One run per member of the model's family, each in a folder of its own below ``out``.

    Args:
        run: of any member.
        anchors: whether its anchor is that of all; the anchor itself, and concepts of another
            kind, keep their own.
    """
    home = family(run.model)
    runs = []
    every = every_concept(run.model)
    for concept, place in zip(every, places([c.name for c in every]), strict=True):
        _, anchor, (_, typed) = run.targets[0]
        fits = anchor.kind in ("text", concept.kind) and anchor.name != concept.name
        if not anchors or not fits:
            if concept.anchor is None:
                raise UserError(
                    f"{run.model} has one class, '{clipped(concept.word)}', so that nothing would "
                    "stay: give another --model."
                )
            typed = concept.anchor
        target = _target(concept, concept.name, typed, home)
        target.pairs()
        runs.append(replace(run, targets=(target,), out=run.out / place))
    return runs
