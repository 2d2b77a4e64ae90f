"""``erase classifier``: image classifiers that forget."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from erase.cli.arguments import DETERMINISTIC, DEVICE, Parser
from erase.cli.recipe_flags import of_all, taken, words
from erase.recipes.classifier import flags, list_recipes, load_recipe, recipe_about
from erase.recipes.settings import flags_of
from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.places import short

RUN = "train, forget, retrain and report: one model, one recipe"
SHARED = "folder where runs share their base and retrained models"
FORGET = (
    "what is forgotten: random:SHARE, class:NAME, cell:NAME/NAME (an object in one style), "
    "indices:FILE (numbers of training samples, one a line), or flipped:SHARE, which are given "
    "wrong labels first"
)


def add_commands(parser: ArgumentParser) -> None:
    """The commands below ``erase classifier``, whose parser is a command's already."""
    commands = parser.add_subcommands(dest="subcommand", required=True)
    commands.add_subcommand("run", _run_parser(), help=RUN)
    text = "recipes side by side: the same data, forget sets, seeds and retrained models"
    commands.add_subcommand("compare", _compare_parser(text), help=text)
    text = "search a recipe's settings on another forget set, with as many trials for each recipe"
    commands.add_subcommand("tune", _tune_parser(text), help=text)
    text = "methods, recipes, data, models and metrics of classifiers"
    listing = Parser(text, "erase classifier list [WHAT]")
    listing.add_argument("what", nargs="?", choices=tuple(CATALOGUE), help="only these")
    commands.add_subcommand("list", listing, help=text)


def _run_parser() -> ArgumentParser:
    from erase.runs.classifiers.graph import RETRAINS, STAGES

    parser = Parser(RUN, "erase classifier run [options]")
    add = parser.add_argument
    add_what(parser)
    add("--split", type=str, help="split.json of an earlier run, instead of drawing one")
    add("--recipe", type=str, default="salun", help="a name or a .toml file (default: salun)")
    add("--seed", type=int, default=0, help="random seed, >= 0 (default: 0)")
    add("--out", type=str, help="run folder (default: runs/MODEL-DATA-FORGET-RECIPE-SEED)")
    add("--stages", type=str, help=f"comma-separated subset of {','.join(STAGES.commands)}")
    add(
        "--retrains",
        type=int,
        default=RETRAINS,
        help=f"how many models to retrain; the floor's interval is over them (default: {RETRAINS})",
    )
    add("--shared", type=str, help=SHARED)
    add("--overwrite", action="store_true", help="redo the stages whose inputs changed")
    add("--dry-run", action="store_true", help="print the stages, recipe and time, do nothing")
    add_computing(parser)
    add_values(parser)
    return parser


def _compare_parser(text: str) -> ArgumentParser:
    from erase.runs.classifiers.graph import RETRAINS

    parser = Parser(text, "erase classifier compare --recipes A,B,… --forget C,D,… [options]")
    add = parser.add_argument
    add_what(parser, several=True)
    add("--recipes", type=str, action="append", help="names or .toml files, by commas")
    add("--seeds", type=int, default=1, help="bases, with the seeds 0, 1, … (default: 1)")
    _add_places(parser, RETRAINS)
    return parser


def _tune_parser(text: str) -> ArgumentParser:
    from erase.runs.classifiers.graph import RETRAINS

    parser = Parser(text, "erase classifier tune --recipe NAME --forget SPEC [options]")
    add = parser.add_argument
    add_what(parser, attacked=False)
    add("--recipe", type=str, help="a name or a .toml file: the settings to search around")
    add("--trials", type=int, default=8, help="settings to try, >= 1 (default: 8)")
    _add_places(parser, RETRAINS)
    return parser


def _add_places(parser: Parser, retrains: int) -> None:
    add = parser.add_argument
    add("--out", type=str, help="folder of the results (default: below runs/)")
    add(
        "--retrains",
        type=int,
        default=retrains,
        help=f"retrained models for each forget set, shared by all (default: {retrains})",
    )
    add("--shared", type=str, help=f"{SHARED} (default: shared/ in --out)")
    add("--overwrite", action="store_true", help="redo the stages whose inputs changed")
    add("--dry-run", action="store_true", help="print what is finished and what is not")
    add_computing(parser)
    add_values(parser)


def add_what(parser: Parser, several: bool = False, attacked: bool = True) -> None:
    """What forgets what.

    Args:
        parser: of a command.
        several: whether it takes several things to forget.
        attacked: whether any of its figures are of membership attacks.
    """
    add = parser.add_argument
    add(
        "--model",
        type=str,
        default="cnn",
        help='cnn, resnet18, or one that "erase classifier list models" tells, with @FILE for its '
        "weights (default: cnn, trained first)",
    )
    add(
        "--data",
        type=str,
        default="mini",
        help='a name from "erase classifier list data", with @PLACE where it needs one '
        "(default: mini, the bundled drawings)",
    )
    if several:
        add("--forget", type=str, action="append", help=f"by commas, {FORGET}")
    else:
        add("--forget", type=str, help=FORGET)
    add("--train-samples", type=int, help="samples to train on (default: all)")
    add(
        "--validation",
        type=float,
        default=0.1,
        help="share of each class that is held out, in [0, 1) (default: 0.1)",
    )
    if attacked:
        add(
            "--attack",
            type=float,
            default=0.5,
            help="share of the test samples that only membership attacks see, in [0, 1) "
            "(default: 0.5)",
        )


def add_computing(parser: Parser) -> None:
    """Where it computes."""
    add = parser.add_argument_group("computing").add_argument
    add("--device", **DEVICE)
    add("--deterministic", **DETERMINISTIC)


def add_values(parser: Parser) -> None:
    """Recipe values and those of training."""
    from erase.classifiers.methods import list_methods
    from erase.classifiers.training import Training

    group = parser.add_argument_group("recipe values", "each overrides the recipe's")

    def only(users: Sequence[str]) -> str:
        return "" if len(users) > 4 else f" [{', '.join(users)}]"

    for name, said in of_all(list_methods(), flags).items():
        text = words(said, only)
        group.add_argument(f"--{name.replace('_', '-')}", help=text, **taken(said[0].flag))
    group = parser.add_argument_group(
        "training", "of the base and of retraining alike; the data's usual values if not given"
    )
    for flag in flags_of(Training):
        name = f"--train-{flag.name.replace('_', '-')}"
        group.add_argument(name, help=flag.help, **taken(flag))


def recipe_values(options: Namespace) -> dict[str, Any]:
    """The recipe values given as flags."""
    from erase.classifiers.methods import list_methods

    known = {flag.name for method in list_methods() for flag in flags(method)}
    return {name: options[name] for name in sorted(known) if options.get(name) is not None}


def training_values(options: Namespace) -> dict[str, Any]:
    """The values of training given as flags."""
    from erase.classifiers.training import Training

    given = {flag.name: options.get(f"train_{flag.name}") for flag in flags_of(Training)}
    return {name: value for name, value in given.items() if value is not None}


def run_classifier(options: Namespace, typed: Sequence[str]) -> None:
    """Does what a parsed ``erase classifier`` asks for."""
    chosen: Namespace = options[options.subcommand]
    if options.subcommand == "list":
        print(listing(chosen.what))
        return
    if options.subcommand in ("compare", "tune"):
        _study(options.subcommand, chosen, f"erase {shlex.join(map(short, typed))}")
        return
    from erase.runs.classifiers.dryrun import describe
    from erase.runs.classifiers.execute import execute
    from erase.runs.classifiers.graph import STAGES
    from erase.runs.classifiers.run import Draw, default_out, make_run

    recipe = load_recipe(chosen.recipe, recipe_values(chosen))
    draw = Draw(
        chosen.train_samples,
        chosen.validation,
        chosen.attack,
        Path(chosen.split) if chosen.split else None,
    )
    forget = chosen.forget or (chosen.split and "split") or ""
    out = chosen.out or default_out(chosen.model, chosen.data, forget, recipe.name, chosen.seed)
    run = make_run(
        chosen.model,
        chosen.data,
        chosen.forget,
        recipe,
        draw=draw,
        training=training_values(chosen),
        retrains=chosen.retrains,
        seed=chosen.seed,
        out=Path(out),
        device=chosen.device,
        deterministic=chosen.deterministic,
        shared=Path(chosen.shared) if chosen.shared else None,
    )
    stages = list(STAGES.commands)
    if chosen.stages is not None:
        stages = [name.strip() for name in chosen.stages.split(",")]
    if chosen.dry_run:
        print(describe(run, stages, chosen.overwrite))
        return
    command = f"erase {shlex.join(map(short, typed))}"
    report = execute(run, stages, chosen.overwrite, command=command)
    if report and processes.is_main():
        print("\n".join([*report["verdict"], str(run.out / "report.html")]), flush=True)


def _study(command: str, chosen: Namespace, typed: str) -> None:
    """``compare`` and ``tune``."""
    from erase.cli.options import names
    from erase.runs.classifiers.run import Draw
    from erase.study.classifiers import compare, tune
    from erase.study.classifiers.matrix import Common, claim, make_cells, run_cells

    processes.refuse_several()
    common = Common(
        chosen.model,
        chosen.data,
        Draw(
            chosen.train_samples,
            chosen.validation,
            **({"attack": chosen.attack} if "attack" in chosen else {}),
        ),
        training_values(chosen),
        chosen.retrains,
        chosen.device,
        chosen.deterministic,
    )
    values = recipe_values(chosen)
    if not chosen.forget:
        raise UserError("What to forget is not said: give --forget random:0.1, class:NAME, ….")
    shared = Path(chosen.shared) if chosen.shared else None
    if command == "tune":
        if not chosen.recipe:
            raise UserError("No recipe was given: add --recipe, e.g. --recipe salun.")
        recipe = load_recipe(chosen.recipe, values)
        out = Path(chosen.out) if chosen.out else tune.default_out(recipe.name, chosen.forget)
        cells = tune.make_trials(
            common, recipe, chosen.forget, chosen.trials, out, shared, fixed=values
        )
    else:
        if not chosen.recipes:
            raise UserError("No recipes were given: add --recipes, e.g. --recipes salun,finetune.")
        out = Path(chosen.out or "runs/classifiers")
        recipes = [load_recipe(name, values) for name in names(chosen.recipes)]
        forgets = names(chosen.forget)
        if chosen.seeds < 1:
            raise UserError(f"--seeds is {chosen.seeds}: give 1 or more.")
        cells = make_cells(common, recipes, forgets, range(chosen.seeds), out, shared)
    if chosen.dry_run:
        for cell in cells:
            state = "finished" if cell.result() is not None else "to do"
            print(f"{state:8s}  {cell.recipe}, {cell.forget}, seed {cell.seed}")
        return
    if (
        command == "tune"
        and (out / f"{recipe.name}.toml").resolve() == Path(chosen.recipe).resolve()
    ):
        raise UserError(
            f"The search would write its result over {chosen.recipe}: choose another --out."
        )
    claim(out, common, command)
    failed = run_cells(cells, chosen.overwrite)
    if command == "tune":
        print(tune.conclude(recipe, cells, out, typed, fixed=values))
    else:
        print(compare.summarise(cells, out, typed))
    if failed:
        raise UserError(f"{len(failed)} of {len(cells)} runs failed; the others are done.")


def _recipes() -> list[Sequence[str]]:
    return [(name, load_recipe(name).method, recipe_about(name)) for name in list_recipes()]


def _modules(package: str) -> list[Sequence[str]]:
    from importlib.util import find_spec

    from erase.cli.listing import first_line
    from erase.runtime.modules import names

    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent
    return [(name.replace("_", "-"), first_line(folder / f"{name}.py")) for name in names(folder)]


CATALOGUE: Mapping[str, tuple[Sequence[str], Any]] = {
    "methods": (("method", ""), lambda: _modules("erase.classifiers.methods")),
    "recipes": (("recipe", "method", ""), _recipes),
    "data": (("data", ""), lambda: _modules("erase.classifiers.data")),
    "models": (("model", ""), lambda: _modules("erase.classifiers.models")),
    "metrics": (("metric", ""), lambda: _modules("erase.eval.classifiers.metrics")),
}
"""What ``erase classifier list`` can list."""


def listing(what: str | None = None) -> str:
    """The entries of one kind, or of each, in aligned columns."""
    from erase.cli.listing import aligned

    parts = []
    for name in CATALOGUE if what is None else (what,):
        heads, rows = CATALOGUE[name]
        parts.append("\n".join(aligned([heads, *rows()])))
    return "\n\n".join(parts)
