"""The command line: ``erase run`` and its stages, ``export``, ``compare``, ``tune``, ``list``."""

from __future__ import annotations

import csv
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from erase import processes
from erase.errors import UserError, nearest
from erase.notes import own_words
from erase.parser import build_parser
from erase.places import short
from erase.recipe import (
    Recipe,
    default_recipe,
    flags,
    list_methods,
    list_recipes,
    load_recipe,
    make_recipe,
    recipe_for,
)
from erase.requirements import RequirementError, check_folders, check_report, parse
from erase.runs import COMMANDS, check_stages, model_of, read_facts
from erase.words import counted

if TYPE_CHECKING:
    from erase.cells import Matrix
    from erase.manner import Manner
    from erase.specs import Instruments
    from erase.task import Compute, Task

NAMED = 3
"""Failed cells that the last sentence names."""


def main(argv: Sequence[str] | None = None) -> None:
    """Parses and runs; a user's mistake is one sentence and exit code 2, a requirement that is not
    met exit code 3."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        options = build_parser().parse_args(args)
        with own_words():
            dispatch(options, args)
        processes.leave()
    except UserError as error:
        processes.let_the_first_speak()
        print(f"erase: {error}", file=sys.stderr)
        sys.exit(2)
    except RequirementError as error:
        if processes.is_main():
            print("\n".join(f"erase: {line}" for line in str(error).splitlines()), file=sys.stderr)
        processes.leave()
        sys.exit(3)
    except BrokenPipeError:
        # Who reads the output has seen enough, as `head` has; what is left to print is nobody's.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        print(f"erase: {error}: choose a place that can be read and written.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("erase: interrupted; run the same command again to go on.", file=sys.stderr)
        sys.exit(130)


def dispatch(options: Namespace, typed: Sequence[str]) -> None:
    """Runs a parsed command.

    Args:
        options: parsed.
        typed: as the user wrote it, to be repeated in what is written.
    """
    command = options.command
    chosen: Namespace = options[command]
    if command in ("compare", "tune", "export"):
        processes.refuse_several()
    for key in ("model", "source", "base"):
        if chosen.get(key):
            chosen[key] = model_of(chosen[key])
    if command == "list":
        from erase.listing import listing

        print(listing(chosen.what))
    elif command == "export":
        from erase.exporting import export

        print(
            export(
                chosen.source,
                chosen.target,
                dtype=chosen.dtype,
                delta=chosen.delta,
                base=chosen.base,
                overwrite=chosen.overwrite,
            )
        )
    elif command == "compare":
        _compare(chosen, f"erase {shlex.join(typed)}")
    elif command == "tune":
        _tune(chosen, f"erase {shlex.join(typed)}")
    elif command == "generate" and chosen.prompt is not None and chosen.set is not None:
        raise UserError("--prompt and --set don't go together: give one of them.")
    elif command == "generate" and chosen.prompt is not None:
        from erase.look import quick_look

        quick_look(chosen, recipe_values(chosen))
    elif command == "generate" and chosen.set is not None:
        from erase.look import sample_set

        sample_set(chosen, recipe_values(chosen))
    elif command == "eval" and chosen.images:
        from erase.measuring import measure_images

        required = parse(chosen.require) if chosen.require is not None else {}
        text, result = measure_images(chosen, recipe_values(chosen), _instruments(chosen))
        if processes.is_main():
            print(text)
        check_folders(result, required)
    else:
        _stages(command, chosen, typed)


def recipe_values(options: Namespace) -> dict[str, Any]:
    """The recipe values given as flags."""
    names = {f.name for m in list_methods() for f in flags(m)} - {"name", "method"}
    return {n: options[n] for n in sorted(names) if options.get(n) is not None}


def _instruments(options: Namespace, earlier: Mapping[str, Any] | None = None) -> Instruments:
    """What the flags name, or an earlier command did."""
    from erase.specs import Instruments

    before = earlier or {}
    specs = {k: options[k] or before.get(k) for k in ("judge", "clip", "features", "lpips")}
    given = {k: v for k, v in vars(options.nudity).items() if v is not None}
    counted = {**(before.get("nudity") or {}), **given}
    if not counted:
        return Instruments(**specs)
    from erase.eval.nudity import Config

    return Instruments(**specs, nudity=Config(**counted))


def _compute(options: Namespace, earlier: Mapping[str, Any] | None = None) -> Compute:
    """As the flags say, or said for an earlier command."""
    from erase.task import Compute

    before = earlier or {}
    return Compute(
        device=options.device,
        deterministic=options.deterministic,
        channels_last=options.channels_last or bool(before.get("channels_last")),
        compiled=options.compile or bool(before.get("compiled")),
    )


def _manner(options: Namespace) -> Manner:
    from erase.manner import PREVIEW, Manner

    preview = options.get("preview")
    return Manner(
        anyway=bool(options.get("anyway")),
        preview=PREVIEW if preview is None else preview,
        tracker=options.get("tracker"),
    )


def _stages(command: str, options: Namespace, typed: Sequence[str]) -> None:
    from erase.commands import execute
    from erase.task import each

    for flag in ("count", "set", "against", "reference", "metrics"):
        if options.get(flag) is not None:
            beside = "--prompt or --set" if command == "generate" else "--images"
            raise UserError(f"--{flag} has no effect without {beside}: leave it out.")
    manner = _manner(options)
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
        from erase.dryrun import describe_tasks

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
        from erase.eval.family import summarise

        done = [t.out for t in tasks if t.job.concept.name not in failed]
        print(summarise(task.out, done))
    if failed:
        raise UserError(f"These concepts failed: {', '.join(failed)}; the others are done.")
    if lacking:
        raise RequirementError("\n".join(lacking))


def _compare(options: Namespace, command: str) -> None:
    from erase.matrix import make_matrix, summarise

    if not options.recipes:
        raise UserError("No recipes were given: add --recipes, e.g. --recipes salun-mini,esd-x.")
    if options.seeds < 1:
        raise UserError(f"--seeds {options.seeds} is less than 1: ask for at least one.")
    matrix = make_matrix(
        options.model,
        _names(options.recipes),
        _names(options.concepts) or ["all"],
        range(options.seeds),
        options.out or "runs/compare",
        recipe_values(options),
        includes=options.include or [],
        **_matrix_options(options),
    )
    failed = _run_matrix(matrix, options)
    if failed is not None:
        print(summarise(matrix, command))
        _name_failed(failed)


def _tune(options: Namespace, command: str) -> None:
    from erase.matrix import summarise
    from erase.tuning import conclude, tuning_matrix

    if not options.recipe:
        raise UserError("No recipe was given: add --recipe, e.g. --recipe salun-mini.")
    out = options.out or f"runs/tune-{Path(options.recipe).stem}"
    recipe, matrix = tuning_matrix(
        options.recipe,
        options.model,
        Path(out),
        count=options.trials,
        budget=options.forwards,
        concepts=_names(options.concepts),
        overrides=recipe_values(options),
        **_matrix_options(options),
    )
    failed = _run_matrix(matrix, options)
    if failed is not None:
        text = conclude(recipe, matrix, command)
        summarise(matrix, command)
        print(f"{text}\n{matrix.out / 'compare.html'}")
        _name_failed(failed)


def _names(given: Sequence[str] | None) -> list[str]:
    """Names by commas, as in a CSV file: one that holds a comma stands in double quotes."""
    rows = csv.reader(given or [], skipinitialspace=True)
    return [name.strip() for row in rows for name in row if name.strip()]


def _matrix_options(options: Namespace) -> dict[str, Any]:
    return {
        "instruments": _instruments(options),
        "compute": _compute(options),
        "retain": options.retain,
        "anchor": options.anchor,
    }


def _run_matrix(matrix: Matrix, options: Namespace) -> list[str] | None:
    """Runs the cells and returns the failures, or prints what there is to do (None)."""
    from erase.cells import cells, finished, task_of
    from erase.matrix import run_matrix
    from erase.preflight import check_tasks

    every = cells(matrix)
    # Cells with figures keep nothing else, and are told by those.
    todo = [cell for cell in every if not cell.file.exists()]
    firsts = {cell.concept: cell for cell in reversed(todo)}
    check_tasks([task_of(matrix, cell) for cell in firsts.values()], fetch=not options.dry_run)
    if options.dry_run:
        for cell in every:
            state = "finished" if finished(cell) else "to do"
            print(f"{state:9s} {cell.recipe.name}, {cell.concept}, seed {cell.seed}")
        return None
    return run_matrix(matrix, options.overwrite)


def _name_failed(failed: Sequence[str]) -> None:
    if failed:
        more = f"; and {len(failed) - NAMED} more, told above" if len(failed) > NAMED else ""
        raise UserError(
            f"{counted(len(failed), 'cell')} failed, the others are done: "
            f"{'; '.join(failed[:NAMED])}{more}"
        )


def _task(options: Namespace) -> tuple[Task, bool]:
    """The task asked for; what was not given is taken from the run folder, where there is one."""
    from erase.task import family, make_task

    kept: dict[str, Any] = {}
    if options.out and (file := Path(options.out) / "run.json").exists():
        kept = read_facts(file)
    earlier: dict[str, Any] = kept.get("given", {})
    concept = _one_or_more(options.concept) or earlier.get("concept")
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
        from erase.concepts import members

        home = family(model)
        if home is None:
            raise UserError("--concept all needs a family of concepts: it works with --model mini.")
        concept = members(home)[0].name
    seed = options.seed if options.seed is not None else int(kept.get("seed", 0))
    anchor = _one_or_more(options.anchor)
    anchor = earlier.get("anchor") if anchor is None else anchor
    if everything and isinstance(anchor, list):
        raise UserError("--concept all takes one --anchor for all, or each concept's own.")
    out = options.out
    if everything and out is None:
        from erase.concepts import load_concept

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
        instruments=_instruments(options, earlier),
        compute=_compute(options, kept),
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


def _one_or_more(given: list[str] | None) -> str | list[str] | None:
    """A flag that may be given several times: its value, or a list of several."""
    return given[0] if given and len(given) == 1 else given


if __name__ == "__main__":
    main()
