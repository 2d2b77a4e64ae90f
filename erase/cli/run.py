"""``erase run`` and its stages."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from erase.cli.options import (
    attacks_of,
    compute,
    instruments,
    manner_of,
    one_or_more,
    recipe_values,
    sources,
)
from erase.eval.report.requirements import RequirementError, check_report, parse
from erase.methods import list_methods
from erase.recipes.choice import default_recipe, is_bundled, recipe_for
from erase.recipes.recipe import Recipe, as_dict, list_recipes, load_recipe, make_recipe
from erase.runs.folder import COMMANDS, check_stages
from erase.runtime import processes
from erase.runtime.errors import UserError, nearest
from erase.runtime.places import short

if TYPE_CHECKING:
    from erase.eval.report.result import Report
    from erase.runs.run import Run


def run_stages(command: str, options: Namespace, typed: Sequence[str]) -> None:
    """Does ``erase run`` or one of its stages.

    Args:
        command: ``run``, or the stage.
        options: parsed.
        typed: as the user wrote it.
    """
    from erase.eval.report.evaluate import read_report
    from erase.runs.attacks.of_run import attack_run, check_attacks
    from erase.runs.execute import execute
    from erase.runs.make import each

    for flag in ("count", "set", "base", "strength", "against", "reference", "metrics"):
        if options.get(flag) is not None:
            beside = "--prompt or --set" if command == "generate" else "--images"
            raise UserError(f"--{flag} has no effect without {beside}: leave it out.")
    manner = manner_of(options)
    stages = _stages(command, options)
    required = parse(options.require) if options.get("require") is not None else {}
    attacks = attacks_of(options) if command == "run" else None
    for flag, given in (("require", required), ("attacks", attacks)):
        if given and "eval" not in stages:
            raise UserError(f"--{flag} has no effect without the stage eval: leave it out.")
    run, everything = _run(options)
    runs = each(run, options.anchor is not None) if everything else [run]
    if attacks is not None:
        attacks.check(sum(len(one.targets) for one in runs), runs[0].seed)
        for one_of in runs:
            check_attacks(one_of, attacks, fetch=not options.dry_run)
    if options.dry_run:
        from erase.runs.dryrun import describe_runs

        print(describe_runs(runs, stages, options.overwrite))
        if attacks is not None:
            named = ", ".join(attacks.names) or "all"
            print(f"then attacks ({named}, budget {attacks.budget}; no estimate of their time)")
        return
    manner = replace(manner, told=len(runs) == 1)
    made_by = f"erase {shlex.join(map(short, typed))}"

    def one(run: Run) -> Report:
        report = execute(run, stages, options.overwrite, manner, command=made_by)
        if attacks is None:
            return report
        attack_run(run, attacks, options.overwrite, made_by)
        return read_report(run.out)

    failed, lacking = _execute(runs, one, required)
    if everything and "eval" in stages and processes.is_main():
        from erase.eval.report.family import summarise

        print(summarise(run.out, [one.out for one in runs if one.name not in failed]))
    if failed:
        for line in lacking:
            print(f"erase: {line}", file=sys.stderr)
        raise UserError(f"These concepts failed: {', '.join(failed)}; the others are done.")
    if lacking:
        raise RequirementError("\n".join(lacking))


def _stages(command: str, options: Namespace) -> list[str]:
    """Those asked for, checked."""
    if options.get("stages") is None:
        return list(COMMANDS) if command == "run" else [command]
    stages = [name.strip() for name in options.stages.split(",")]
    check_stages(stages)
    for flag in ("anyway", "preview", "tracker"):
        if options.get(flag) not in (None, False) and "train" not in stages:
            raise UserError(f"--{flag} has no effect without the stage train: leave it out.")
    return stages


def _execute(
    runs: Sequence[Run], one: Callable[[Run], Report], required: Mapping[str, float]
) -> tuple[list[str], list[str]]:
    """Does the runs, one of several may fail; the concepts that did, and what is not met."""
    failed: list[str] = []
    lacking: list[str] = []
    for number, run in enumerate(runs, 1):
        if len(runs) > 1 and processes.is_main():
            print(f"[{number}/{len(runs)}] {run.name} -> {run.out}", flush=True)
        try:
            report = one(run)
        except UserError as error:
            # Several processes can't agree on which concepts to go on with.
            if len(runs) == 1 or processes.count() > 1:
                raise
            print(f"erase: {error}", file=sys.stderr, flush=True)
            failed.append(run.name)
            continue
        if report:
            tell(report, run.out)
            try:
                check_report(report, required, run.name if len(runs) > 1 else None)
            except RequirementError as error:
                lacking += str(error).splitlines()
    return failed, lacking


def tell(report: Report, out: Path) -> None:
    """Prints a run's conclusion, and where its report is."""
    if processes.is_main():
        rules = report.get("conclusion", {}).get("rules", ())
        lines = [*report["verdict"], *(f"  {rule}" for rule in rules)]
        print("\n".join([*lines, f"{out / 'report.html'}"]), flush=True)


def _run(options: Namespace) -> tuple[Run, bool]:
    """The run asked for, and whether of each concept in turn; what was not given is taken from the
    run folder, where there is one."""
    from erase.runs.make import check_edits, make_run, resume
    from erase.runs.run import slug

    concept = one_or_more(options.concept)
    anchor: str | Sequence[str | None] | None = one_or_more(options.anchor)
    seed, out, model = options.seed, options.out, options.model
    before = resume(Path(out), concept, options.recipe) if out else None
    if before:
        _refuse_unnamed(before)
        model = model or before.model
        concept = concept or [target.named[0] for target in before.targets]
        anchor = [target.named[1] for target in before.targets] if anchor is None else anchor
        seed = before.seed if seed is None else seed
    if not concept:
        example = "class:church" if model == "mini-class" else "church"
        raise UserError(f"No concept was given: add --concept, e.g. --concept {example}.")
    model, seed = model or "mini", seed or 0
    recipe, overrides = _recipe(options, model, before), recipe_values(options)
    everything = concept == "all"
    if isinstance(concept, list) and "all" in concept:
        raise UserError("--concept all takes each concept in turn: give it alone.")
    if everything:
        concept = _first(options, model, anchor)
        out = out or f"runs/{slug(model)}-all-{_named(recipe, model, concept)}-{seed}"
    if isinstance(recipe, Recipe):
        saved = as_dict(recipe)
        recipe = make_recipe(saved.pop("name"), saved, overrides)
    run = make_run(model, concept, anchor, recipe, seed, out, overrides, sources(options))
    check_edits(run.recipe)
    if before:
        run = replace(run, sources=run.sources.beside(before.sources, run.roles()))
    shared = Path(options.shared) if options.shared else None
    how = compute(options, before)
    run = replace(run, instruments=instruments(options, before), compute=how, shared=shared)
    return run, everything


def _refuse_unnamed(before: Run) -> None:
    """Refuses a folder whose model no recipe can make again."""
    if before.recipe.method not in list_methods():
        raise UserError(
            f"{before.out} holds a model that no recipe makes ({before.recipe.method}): evaluate "
            "it by the 'erase combine' that made it, or measure its images with 'erase eval "
            "--images'."
        )


def _first(options: Namespace, model: str, anchor: str | Sequence[str | None] | None) -> str:
    """The first of all concepts."""
    from erase.runs.make import every_concept

    if options.forget_folder:
        raise UserError(
            "--forget-folder holds one concept's images: leave it out with --concept all."
        )
    if isinstance(anchor, list):
        raise UserError(
            "--concept all takes one --anchor at most: give one for all concepts, or none."
        )
    return every_concept(model)[0].name


def _named(recipe: str | Recipe | None, model: str, concept: str) -> str:
    """The name of the recipe as part of a folder's name."""
    from erase.runs.make import concept_of

    if isinstance(recipe, Recipe):
        return recipe.name
    return Path(recipe or default_recipe(model, concept_of(concept, model))).stem


def _recipe(options: Namespace, model: str, before: Run | None) -> str | Recipe | None:
    """The recipe asked for, or that of the folder; None for that of the model and the concept.

    Raises:
        UserError: ``--method`` is unknown or another one's.
    """
    method: str | None = options.method
    recipe: str | None = options.recipe
    found = before.recipe if before and recipe is None else recipe
    if method is None:
        return found
    if method not in list_methods():
        raise UserError(
            f"There is no method '{method}': choose from {', '.join(list_methods())}."
            f"{nearest(method, list_methods())}"
        )
    if found is None:
        return _recipe_of(method, model)
    settings = load_recipe(found) if isinstance(found, str) else found
    if settings.method != method:
        raise UserError(
            f"The recipe '{settings.name}' is not for the method '{method}': "
            "leave out --method or choose another --recipe."
        )
    return found


def _recipe_of(method: str, model: str) -> str | None:
    """The recipe that a method stands for; None for that of the default one."""
    if load_recipe(default_recipe(model)).method == method:
        return None
    every = [name for name in list_recipes() if not is_bundled(name)]
    own = [name for name in every if load_recipe(name).method == method]
    if len(own) > 1:
        raise UserError(
            f"There are several recipes for '{method}': add --recipe {' or '.join(own)}."
        )
    return recipe_for(own[0] if own else method, model)
