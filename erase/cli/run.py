"""``erase run`` and its stages."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from erase.cli.options import compute, instruments, manner_of, one_or_more, recipe_values
from erase.eval.report.requirements import RequirementError, check_report, parse
from erase.methods import list_methods
from erase.recipes.recipe import (
    Recipe,
    default_recipe,
    list_recipes,
    load_recipe,
    make_recipe,
    recipe_for,
)
from erase.runs.folder import COMMANDS, check_stages, read_facts
from erase.runtime import processes
from erase.runtime.errors import UserError, nearest
from erase.runtime.places import short

if TYPE_CHECKING:
    from erase.runs.task import Task


def run_stages(command: str, options: Namespace, typed: Sequence[str]) -> None:
    from erase.runs.execute import execute
    from erase.runs.task import each

    for flag in ("count", "set", "against", "reference", "metrics"):
        if options.get(flag) is not None:
            beside = "--prompt or --set" if command == "generate" else "--images"
            raise UserError(f"--{flag} has no effect without {beside}: leave it out.")
    manner = manner_of(options)
    stages = list(COMMANDS) if command == "run" else [command]
    if options.get("stages"):
        stages = options.stages.split(",")
        check_stages(stages)
    required = parse(options.require) if options.get("require") is not None else {}
    if required and "eval" not in stages:
        raise UserError("--require has no effect without the stage eval: leave it out.")
    task, everything = _task(options)
    tasks = each(task, options.anchor is not None) if everything else [task]
    if options.dry_run:
        from erase.runs.dryrun import describe_tasks

        print(describe_tasks(tasks, stages, options.overwrite))
        return
    failed = []
    lacking: list[str] = []
    made_by = f"erase {shlex.join(map(short, typed))}"
    manner = replace(manner, told=len(tasks) == 1)
    for number, one in enumerate(tasks, 1):
        if len(tasks) > 1 and processes.is_main():
            print(f"[{number}/{len(tasks)}] {one.job.concept.name} -> {one.out}", flush=True)
        try:
            report = execute(one, stages, options.overwrite, manner, command=made_by)
        except UserError as error:
            # Several processes can't agree on which concepts to go on with.
            if len(tasks) == 1 or processes.count() > 1:
                raise
            print(f"erase: {error}", file=sys.stderr, flush=True)
            failed.append(one.job.concept.name)
            continue
        if report and processes.is_main():
            rules = report.get("conclusion", {}).get("rules", ())
            lines = [*report["verdict"], *(f"  {rule}" for rule in rules)]
            print("\n".join([*lines, f"{one.out / 'report.html'}"]), flush=True)
        if report:
            try:
                check_report(report, required)
            except RequirementError as error:
                lacking += str(error).splitlines()
    if everything and "eval" in stages and processes.is_main():
        from erase.eval.report.family import summarise

        done = [t.out for t in tasks if t.job.concept.name not in failed]
        print(summarise(task.out, done))
    if failed:
        raise UserError(f"These concepts failed: {', '.join(failed)}; the others are done.")
    if lacking:
        raise RequirementError("\n".join(lacking))


def _task(options: Namespace) -> tuple[Task, bool]:
    """The task asked for; what was not given is taken from the run folder, where there is one."""
    from erase.runs.task import family, make_task

    kept: dict[str, Any] = {}
    if options.out and (file := Path(options.out) / "run.json").exists():
        kept = read_facts(file)
    earlier: dict[str, Any] = kept.get("given", {})
    concept = one_or_more(options.concept) or earlier.get("concept")
    if concept not in (earlier.get("concept"), kept.get("concept")):
        kept, earlier = {}, {}
    if not concept:
        raise UserError('No concept was given: add --concept, e.g. --concept church (see "list").')
    model = options.model or kept.get("model", {}).get("source") or "mini"
    recipe: str | Recipe | None = options.recipe
    overrides = recipe_values(options)
    if recipe is None and kept:
        saved = dict(kept["recipe"])
        recipe, overrides = make_recipe(saved.pop("name"), saved, overrides), {}
    if options.method is not None:
        if options.method not in list_methods():
            raise UserError(
                f"There is no method '{options.method}': choose among {', '.join(list_methods())}."
                f"{nearest(options.method, list_methods())}"
            )
        recipe = recipe or _recipe_of(options.method, model)
        settings = load_recipe(recipe, {}) if isinstance(recipe, str) else recipe
        if settings and settings.method != options.method:
            raise UserError(
                f"The recipe '{settings.name}' is for another method than '{options.method}': "
                "leave out --method or choose another --recipe."
            )
    everything = concept == "all"
    if isinstance(concept, list) and "all" in concept:
        raise UserError("--concept all is each concept in turn: give it alone.")
    if everything:
        if options.forget_folder:
            raise UserError("--forget-folder holds one concept's images: leave it out with all.")
        from erase.prompts.concept import members

        home = family(model)
        if home is None:
            raise UserError("--concept all needs a family of concepts: it works with --model mini.")
        concept = members(home)[0].name
    seed = options.seed if options.seed is not None else int(kept.get("seed", 0))
    anchor = one_or_more(options.anchor)
    anchor = earlier.get("anchor") if anchor is None else anchor
    if everything and isinstance(anchor, list):
        raise UserError("--concept all takes one --anchor for all, or each concept's own.")
    out = options.out
    if everything and out is None:
        from erase.prompts.concept import load_concept

        name = recipe or default_recipe(model, load_concept(str(concept), home))
        out = f"runs/{model}-all-{Path(str(name)).stem}-{seed}"
    task = make_task(
        model,
        concept,
        anchor,
        recipe,
        seed,
        out,
        overrides,
        forget_folder=options.forget_folder,
        retain_folder=options.retain_folder,
        retain=options.retain or earlier.get("retain"),
        neighbours=options.neighbours or earlier.get("neighbours"),
        instruments=instruments(options, earlier),
        compute=compute(options, kept),
        shared=options.shared,
    )
    # Those of an earlier command, as far as the recipe of this one has a use for them.
    keys = [f"{role}_folder" for role in task.job.roles()]
    again: Any = {k: Path(earlier[k]) for k in keys if earlier.get(k) and not options[k]}
    return replace(task, job=replace(task.job, **again)), everything


def _recipe_of(method: str, model: str) -> str | None:
    """The recipe that a method stands for; None for that of the default one."""
    if load_recipe(default_recipe(model)).method == method:
        return None
    every = [name for name in list_recipes() if not name.endswith("-mini")]
    own = [name for name in every if load_recipe(name).method == method]
    if len(own) > 1:
        raise UserError(
            f"There are several recipes of '{method}': add --recipe {' or '.join(own)}."
        )
    return recipe_for(own[0], model)
