"""The command line: ``erase run | images | mask | train | generate | eval | export | list``."""

from __future__ import annotations

import re
import sys
from argparse import HelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from erase.errors import UserError, nearest
from erase.recipe import Flag, Recipe, flags, list_methods, list_recipes, load_recipe, make_recipe
from erase.runs import COMMANDS, read_facts

if TYPE_CHECKING:
    from erase.commands import Task


class Parser(ArgumentParser):
    """Says what is wrong in one sentence instead of printing the usage of fifty flags."""

    def __init__(self, text: str, usage: str) -> None:
        super().__init__(description=text, usage=usage, formatter_class=HelpFormatter)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises what the parser found wrong, with the nearest flag."""
        text = " ".join(message.split()).removeprefix("error: ")
        text = re.sub(r"Parser key \"(\w+)\": ", r"--\1: ", text)
        text = re.sub(r"Expected a <class '(\w+)'>\. Got value: (.*)", r"'\2' is no \1", text)
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", text)
        flags = [f for action in self._actions for f in action.option_strings]
        near = nearest(unknown[1], flags) if unknown else ""
        raise UserError(f"{text.rstrip('.')}.{near} See --help.")


STAGE_HELP = {
    "run": "do everything: images, mask, train, generate, eval",
    "images": "make the forget and retain images with the base model",
    "mask": "measure saliency and write mask.safetensors",
    "train": "move the masked weights and write model/",
    "generate": "make the evaluation images, or a quick look with --prompt",
    "eval": "measure the images and write report.json and report.html",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parses and runs; a user's mistake is one sentence and exit code 2."""
    args = list(sys.argv[1:] if argv is None else argv)
    try:
        options = build_parser().parse_args(args)
        dispatch(options)
    except UserError as error:
        print(f"erase: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        print(f"erase: {error}: choose a place that can be read and written.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("erase: interrupted; run the same command again to go on.", file=sys.stderr)
        sys.exit(130)


def build_parser() -> ArgumentParser:
    """The whole command line."""
    text = "Erase a concept from a text-to-image diffusion model, and prove it."
    parser = Parser(text, "erase COMMAND [options]")
    commands = parser.add_subcommands(dest="command", required=True)
    for name, text in STAGE_HELP.items():
        commands.add_subcommand(name, _stage_parser(name, text), help=text)
    text = "convert: diffusers folder <-> single file (original SD keys), or a delta"
    commands.add_subcommand("export", _export_parser(text), help=text)
    text = "recipes side by side: the same base, concepts, prompts, seeds and judges"
    commands.add_subcommand("compare", _compare_parser(text), help=text)
    text = "methods, metrics, concepts, prompt sets, recipes"
    listing = Parser(text, "erase list [WHAT]")
    kinds = ("methods", "metrics", "concepts", "sets", "recipes")
    listing.add_argument("what", nargs="?", choices=kinds, help="only these")
    commands.add_subcommand("list", listing, help=text)
    return parser


def _stage_parser(name: str, text: str) -> ArgumentParser:
    parser = Parser(text, f"erase {name} [options]")
    add = parser.add_argument
    add(
        "--model",
        type=str,
        help="mini, a hub id, a diffusers folder or a single file "
        "(default: the run folder's, else mini)",
    )
    add(
        "--concept",
        type=str,
        help='a name from "erase list concepts", "all" for each of the family, or a prompt',
    )
    add("--anchor", type=str, help="what to make instead: a name or a prompt; '' is empty")
    add("--recipe", type=str, help='a name from "erase list recipes" or a .toml file')
    add("--method", type=str, help=f"one of {', '.join(list_methods())} (default: the recipe's)")
    add("--seed", type=int, help="of every random draw, >= 0 (default: 0)")
    add("--out", type=str, help="run folder (default: runs/MODEL-CONCEPT-RECIPE-SEED)")
    if name == "run":
        add("--stages", type=str, help=f"a part of {','.join(COMMANDS)}")
    add("--retain", type=str, help="prompt set to keep: a name or a .csv file")
    add("--forget-folder", type=str, help="your own images of the concept, instead of made ones")
    add("--retain-folder", type=str, help="your own images to retain, instead of made ones")
    add(
        "--judge",
        type=str,
        help="classifier for UA/IRA/CRA: torchvision:NAME[@FILE], timm:NAME[@FILE] or "
        "open_clip:NAME[@FILE]",
    )
    add("--clip", type=str, help="model of the CLIP score: open_clip:NAME[@FILE]")
    add("--shared", type=str, help="folder where runs find each other's images of the base model")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute")
    add("--deterministic", action="store_true", help="same bits on every run of a GPU, slower")
    add("--overwrite", action="store_true", help="redo the stages whose inputs changed")
    add("--dry-run", action="store_true", help="print the stages, recipe and estimates, do nothing")
    if name == "generate":
        add("--prompt", type=str, help="a quick look: sample this prompt into --out, nothing else")
        add("--count", type=int, default=4, help="images of the quick look, >= 1")
    _add_recipe_values(parser)
    return parser


def _add_recipe_values(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("recipe values", "each overrides the recipe's")
    users: dict[str, list[str]] = {}
    found: dict[str, Flag] = {}
    for method in list_methods():
        for flag in flags(method):
            users.setdefault(flag.name, []).append(method)
            found.setdefault(flag.name, flag)
    for name, flag in found.items():
        only = "" if len(users[name]) == len(list_methods()) else f" [{', '.join(users[name])}]"
        text = f"{flag.help} (default: the recipe's, else {flag.default}){only}"
        group.add_argument(f"--{name.replace('_', '-')}", type=flag.type, help=text)


def _compare_parser(text: str) -> ArgumentParser:
    parser = Parser(text, "erase compare --recipes A,B,… --concepts C,D,…|all [options]")
    add = parser.add_argument
    add("--recipes", type=str, help='names from "erase list recipes" or .toml files, by commas')
    add(
        "--concepts",
        type=str,
        default="all",
        help='names or prompts, by commas, or "all" for the objects of the family (default: all)',
    )
    add("--anchor", type=str, help="what to make instead (default: each concept's own)")
    add("--seeds", type=int, default=1, help="runs a cell, with seeds 0, 1, … (default: 1)")
    add("--model", type=str, default="mini", help="mini, a hub id, a folder or a single file")
    add("--out", type=str, default="runs/compare", help="folder (default: runs/compare)")
    add("--retain", type=str, help="prompt set to keep: a name or a .csv file")
    add("--judge", type=str, help="classifier for UA/IRA/CRA, as for erase run")
    add("--clip", type=str, help="model of the CLIP score: open_clip:NAME[@FILE]")
    add("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="where to compute")
    add("--overwrite", action="store_true", help="redo the cells whose settings changed")
    add("--dry-run", action="store_true", help="print the cells and do nothing")
    _add_recipe_values(parser)
    return parser


def _export_parser(text: str) -> ArgumentParser:
    parser = Parser(text, "erase export SOURCE TARGET [options]")
    add = parser.add_argument
    add("source", type=str, help="a diffusers folder, a single file, or a delta file")
    add("target", type=str, help="a .safetensors file, or a folder to unpack a file into")
    add("--dtype", choices=("keep", "fp16", "bf16", "fp32"), default="keep", help="of the weights")
    add("--delta", action="store_true", help="write or read only what differs from --base")
    add("--base", type=str, help="the base model of a delta, or to count surviving edits")
    add("--overwrite", action="store_true", help="replace an existing target")
    return parser


def dispatch(options: Namespace) -> None:
    """Runs a parsed command."""
    command = options.command
    chosen: Namespace = options[command]
    if command == "list":
        _list(chosen.what)
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
        _compare(chosen)
    elif command == "generate" and chosen.prompt is not None:
        from erase.look import quick_look

        quick_look(chosen, recipe_values(chosen))
    else:
        _stages(command, chosen)


def recipe_values(options: Namespace) -> dict[str, Any]:
    """The recipe values given as flags."""
    names = {f.name for m in list_methods() for f in flags(m)} - {"name", "method"}
    return {n: options[n] for n in sorted(names) if options.get(n) is not None}


def _stages(command: str, options: Namespace) -> None:
    from erase.commands import each, execute

    stages = list(COMMANDS) if command == "run" else [command]
    if options.get("stages"):
        stages = options.stages.split(",")
    task, everything = _task(options)
    tasks = each(task, options.anchor is not None) if everything else [task]
    if options.dry_run:
        from erase.dryrun import describe_tasks

        print(describe_tasks(tasks, stages))
        return
    failed = []
    for number, one in enumerate(tasks, 1):
        if len(tasks) > 1:
            print(f"[{number}/{len(tasks)}] {one.job.concept.name} -> {one.out}", flush=True)
        try:
            report = execute(one, stages, options.overwrite)
        except UserError as error:
            if len(tasks) == 1:
                raise
            print(f"erase: {error}", file=sys.stderr, flush=True)
            failed.append(one.job.concept.name)
            continue
        if report:
            from erase.eval.verdict import headline

            print("\n".join([*headline(report), f"{one.out / 'report.html'}"]), flush=True)
    if everything and "eval" in stages:
        from erase.eval.family import summarise

        done = [t.out for t in tasks if t.job.concept.name not in failed]
        print(summarise(task.out, done))
    if failed:
        raise UserError(f"These concepts failed: {', '.join(failed)}; the others are done.")


def _compare(options: Namespace) -> None:
    from erase.matrix import cells, finished, make_matrix, run_matrix, summarise

    if not options.recipes:
        raise UserError("No recipes were given: add --recipes, e.g. --recipes salun-mini,esd-x.")
    if options.seeds < 1:
        raise UserError(f"--seeds {options.seeds} is less than 1: ask for at least one.")
    matrix = make_matrix(
        options.model,
        [name.strip() for name in options.recipes.split(",") if name.strip()],
        [name.strip() for name in options.concepts.split(",") if name.strip()],
        range(options.seeds),
        options.out,
        recipe_values(options),
        judge=options.judge,
        clip=options.clip,
        retain=options.retain,
        anchor=options.anchor,
        device=options.device,
    )
    if options.dry_run:
        for cell in cells(matrix):
            state = "finished" if finished(cell) else "to do"
            print(f"{state:9s} {cell.recipe.name}, {cell.concept}, seed {cell.seed}")
        return
    failed = run_matrix(matrix, options.overwrite)
    print(summarise(matrix))
    if failed:
        raise UserError(f"{len(failed)} cells failed, the others are done: {'; '.join(failed)}")


def _task(options: Namespace) -> tuple[Task, bool]:
    """The task asked for; what was not given is taken from the run folder, where there is one."""
    from erase.commands import family, make_task

    kept: dict[str, Any] = {}
    if options.out and (file := Path(options.out) / "run.json").exists():
        kept = read_facts(file)
    earlier: dict[str, Any] = kept.get("given", {})
    concept = options.concept or earlier.get("concept")
    if concept not in (earlier.get("concept"), kept.get("concept")):
        kept, earlier = {}, {}
    if not concept:
        raise UserError('No concept was given: add --concept, e.g. --concept church (see "list").')
    model = options.model or kept.get("model", {}).get("source") or "mini"
    recipe: str | Recipe | None = options.recipe
    overrides = recipe_values(options)
    if recipe is None and kept:
        saved = dict(kept["recipe"])
        recipe, overrides = make_recipe(saved.pop("name"), saved | overrides), {}
    if options.method is not None:
        if options.method not in list_methods():
            raise UserError(
                f"There is no method '{options.method}': choose among {', '.join(list_methods())}."
                f"{nearest(options.method, list_methods())}"
            )
        settings = load_recipe(recipe, {}) if isinstance(recipe, str) else recipe
        if settings and settings.method != options.method:
            raise UserError(
                f"The recipe '{settings.name}' is for another method than '{options.method}': "
                "leave out --method or choose another --recipe."
            )
    everything = concept == "all"
    if everything:
        if options.forget_folder:
            raise UserError("--forget-folder holds one concept's images: leave it out with all.")
        from erase.concepts import members

        home = family(model)
        if home is None:
            raise UserError("--concept all needs a family of concepts: it works with --model mini.")
        concept = members(home)[0].name
    seed = options.seed if options.seed is not None else int(kept.get("seed", 0))
    anchor = options.anchor if options.anchor is not None else earlier.get("anchor")
    out = options.out
    if everything and out is None:
        from erase.concepts import load_concept
        from erase.recipe import default_recipe

        name = recipe or default_recipe(model, load_concept(concept, home))
        out = f"runs/{model}-all-{Path(str(name)).stem}-{seed}"
    task = make_task(
        model,
        concept,
        anchor,
        recipe,
        seed,
        out,
        overrides,
        forget_folder=options.forget_folder or earlier.get("forget_folder"),
        retain_folder=options.retain_folder or earlier.get("retain_folder"),
        retain=options.retain or earlier.get("retain"),
        judge=options.judge or earlier.get("judge"),
        device=options.device,
        deterministic=options.deterministic,
        shared=options.shared,
        clip=options.clip or earlier.get("clip"),
    )
    return task, everything


def _list(what: str | None) -> None:
    from erase.concepts import list_concepts
    from erase.listing import list_metrics
    from erase.sets import list_sets

    tables = {
        "methods": list_methods(),
        "metrics": list_metrics(),
        "concepts": list_concepts(),
        "sets": list_sets(),
        "recipes": list_recipes(),
    }
    for name, entries in tables.items():
        if what in (None, name):
            print(f"{name}:" if what is None else "", end="\n" if what is None else "")
            print("\n".join(f"  {e}" if what is None else e for e in entries))


if __name__ == "__main__":
    main()
