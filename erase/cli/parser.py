"""What the command line accepts: flags with units, ranges and defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from jsonargparse import ArgumentParser

from erase.cli import attack, combine, demo, export, push
from erase.cli.arguments import DETERMINISTIC, DEVICE, STRENGTH, Parser, add_attacks
from erase.cli.classifier import add_commands
from erase.cli.listing import CATALOGUE, CLASSES, MODEL
from erase.cli.recipe_flags import add_recipe_values
from erase.eval.report.requirements import KNOWN as REQUIRED
from erase.methods import list_methods
from erase.recipes.choice import recipe_for
from erase.recipes.recipe import config_class
from erase.runs.folder import COMMANDS
from erase.runs.manner import PREVIEW, TRACKERS

FEATURES = "network behind FID and KID: mini, inception[@FILE] or open_clip:NAME[@FILE]"

LPIPS = "network behind LPIPS: mini, or alex, vgg or squeeze, each [@FILE]"
SETS = "a name, a .csv file or a dataset on the hub"
RETAINED = "the concept's own, or everyday captions"
OWN = "the bundled model's own; none for other models, so what needs it is not measured"


STAGE_HELP = {
    "run": "do everything: images, mask, train, generate, eval",
    "images": "make the forget and retain images with the base model",
    "mask": "measure saliency and write mask.safetensors",
    "train": "move the masked weights and write model/",
    "generate": "make the evaluation images, or a quick look with --prompt",
    "eval": "measure the images and write report.{json,html,md,csv}",
}


def asked_about(args: Sequence[str]) -> str | None:
    """The recipe or method whose settings a call for help wants to see; None for all of them.

    Raises:
        UserError: there is no such method.
    """
    if not {"-h", "--help", "--help-all"} & {*args}:
        return None
    words = [part for word in args for part in word.split("=", 1)]
    given = dict(pairwise(words))
    if method := given.get("--method"):
        config_class(method)
        return method
    recipe = given.get("--recipe")
    return recipe and recipe_for(recipe, given.get("--model", "mini"))


def build_parser(
    about: str | None = None, exporting: bool = False, only: str | None = None
) -> ArgumentParser:
    """The whole command line.

    Args:
        about: recipe or method that help is asked about, see ``asked_about``.
        exporting: whether the flags of formats are wanted, which importing them takes.
        only: the command whose flags are wanted, which a thousand others would keep waiting; None
            for all.
    """
    text = "Erase a concept from a diffusion model, and show what was erased and what was damaged."
    parser = Parser(text, "erase COMMAND [options]", version("erase-diffusion"))
    commands = parser.add_subcommands(dest="command", required=True)
    for name, (told, make) in _commands(about, exporting).items():
        own = make() if only in (None, name) else Parser(told, f"erase {name} [options]")
        commands.add_subcommand(name, own, help=told)
        if name == "classifier" and only in (None, name):
            add_commands(own)
    return parser


def _commands(
    about: str | None, exporting: bool
) -> Mapping[str, tuple[str, Callable[[], ArgumentParser]]]:
    """What each command does, and what makes its parser."""
    compare = "compare recipes on the same base, concepts, prompts, seeds and judges"
    tune = "search a recipe's settings on tuning concepts, with the same budget for every method"
    classifiers = "Image classifiers that forget, measured against exact unlearning (retraining)."
    return {
        **{
            name: (text, partial(_stage_parser, name, text, about))
            for name, text in STAGE_HELP.items()
        },
        "attack": (attack.ABOUT, attack.parser),
        "demo": (demo.ABOUT, demo.parser),
        "export": (export.ABOUT, partial(export.parser, exporting)),
        "combine": (combine.ABOUT, combine.parser),
        "push": (push.ABOUT, push.parser),
        "compare": (compare, partial(_compare_parser, compare)),
        "tune": (tune, partial(_tune_parser, tune)),
        "classifier": (
            "image classifiers that forget: run, compare, tune, list",
            partial(Parser, classifiers, "erase classifier COMMAND [options]"),
        ),
        "list": (LISTED, _list_parser),
    }


LISTED = "list methods, metrics, attacks, judges, concepts, prompt sets, recipes and classes"


def _list_parser() -> ArgumentParser:
    parser = Parser(LISTED, "erase list [WHAT]")
    choices = (*CATALOGUE, CLASSES)
    parser.add_argument("what", nargs="?", choices=choices, help="list only these")
    parser.add_argument("--model", type=str, help=f"whose classes (default: {MODEL})")
    return parser


def _stage_parser(name: str, text: str, about: str | None) -> ArgumentParser:
    parser = Parser(text, f"erase {name} [options]")
    _add_what(parser)
    add = parser.add_argument
    if name == "run":
        add("--stages", type=str, help=f"comma-separated subset of {','.join(COMMANDS)}")
    add("--retain", type=str, help=f"prompt set to keep: {SETS} (default: {RETAINED})")
    add("--forget-folder", type=str, help="your own images of the concept to train on")
    add("--retain-folder", type=str, help="your own images to retain in training")
    with parser.rare():
        add(
            "--neighbours",
            type=str,
            help="prompts likely to be damaged along with the concept, for the report: "
            f"{SETS} (default: the concept's own, if any)",
        )
        add("--shared", type=str, help="folder in which runs share the base model's images")
    add("--overwrite", action="store_true", help="redo the stages whose inputs changed")
    if name in ("run", "train"):
        _add_manner(parser)
    add("--dry-run", action="store_true", help="only print the stages, recipe and estimates")
    if name in ("run", "eval"):
        add(
            "--require",
            type=str,
            metavar="FIGURE=LEAST,…",
            help=f"exit with code 3 unless each figure ({', '.join(REQUIRED)}) is at least "
            "this fraction, e.g. ua=0.95,ira=0.9; one that was not measured, or on fewer than 10 "
            "images, fails",
        )
    if name == "generate":
        _add_prompts(parser)
    if name == "eval":
        _add_images(parser)
        parser.more |= {"recipe", "method", "forget_folder", "retain_folder"}
    if name == "run":
        add_attacks(parser)
    evaluation = _add_instruments(parser)
    _add_compute(parser)
    add_recipe_values(parser, evaluation, name != "eval", about)
    parser.tell_all()
    return parser


def _add_what(parser: Parser) -> None:
    """What is erased from what, how, where."""
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
        action="append",
        help='a name from "erase list concepts", "all" for each of the family, or a prompt, where '
        "brackets may mark the concept's own words ('a photo of a [church]'); repeat the flag to "
        "erase several concepts together",
    )
    add(
        "--anchor",
        type=str,
        action="append",
        help="what to make instead: a name or a prompt, '' for the empty one (with --concept all, "
        "only for concepts of its kind); for several concepts, give one for all or one for each",
    )
    add(
        "--recipe",
        type=str,
        help='a name from "erase list recipes" or a .toml file (default: salun-mini for mini; '
        "for other models another SalUn recipe, which --dry-run names)",
    )
    add("--method", type=str, help=f"one of {', '.join(list_methods())} (default: the recipe's)")
    add("--seed", type=int, help="random seed, >= 0 (default: 0)")
    add("--out", type=str, help="run folder (default: runs/MODEL-CONCEPT-RECIPE-SEED)")


def _add_manner(parser: Parser) -> None:
    """What a training does beside its results."""
    add = parser.add_argument
    add(
        "--anyway",
        action="store_true",
        help="train even if the base model shows the concept in less than 20 %% of its images",
    )
    with parser.rare():
        add(
            "--preview",
            type=int,
            help="how often to sample four fixed prompts into OUT/previews while training, 0 for "
            f"never (default: {PREVIEW})",
        )
        add(
            "--tracker",
            choices=TRACKERS,
            help="also log losses and previews there while training (default: none)",
        )


def _add_prompts(parser: Parser) -> None:
    """What ``erase generate`` makes without a run."""
    add = parser.add_argument
    add("--prompt", type=str, action="append", help="a quick look: only this prompt, into --out")
    add(
        "--set",
        type=str,
        help="sample every prompt of a set, with its seed, guidance scale and "
        "size, into --out as CASE_K.png with a manifest: " + SETS,
    )
    add("--base", type=str, help="base of a --model that is a LoRA or the like")
    add("--strength", **STRENGTH)
    add(
        "--count",
        type=int,
        help="images per prompt, >= 1 (default: 4 with --prompt, 1 with --set)",
    )


def _add_images(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--images",
        type=str,
        nargs="+",
        action="extend",
        metavar="DIR",
        help="measure these folders of images instead, whoever made them, or one run folder; with "
        "a manifest.jsonl, with files named CASE_K.png and a --set, or with neither",
    )
    add("--set", type=str, help=f"with --images: prompt set of the files: {SETS}")
    add("--against", type=str, metavar="DIR", help="with --images: the base model's images")
    add(
        "--reference",
        type=str,
        metavar="DIR",
        help="with --images: base images with other seeds, the reference of FID and KID",
    )
    add(
        "--metrics",
        type=str,
        help='with --images: comma-separated names from "erase list metrics" (default: those that '
        "the other flags imply)",
    )


def _add_instruments(parser: Parser) -> Any:
    """The group of the flags of the evaluation."""
    group = parser.add_argument_group("evaluation")
    add = group.add_argument
    add(
        "--judge",
        type=str,
        help="classifier for UA/RA/IRA/CRA: torchvision:NAME[@FILE], timm:NAME[@FILE] or "
        "open_clip:NAME[@FILE], or one per axis of the labels: object=SPEC,style=SPEC "
        f"(default: {OWN})",
    )
    with parser.rare():
        _add_networks(add)
    return group


def _add_networks(add: Callable[..., Any]) -> None:
    add(
        "--clip",
        type=str,
        help=f"model for the CLIP score: open_clip:NAME[@FILE] (default: {OWN})",
    )
    add("--features", type=str, help=f"{FEATURES} (default: {OWN})")
    add("--lpips", type=str, help=f"{LPIPS} (default: {OWN})")
    add(
        "--nudity.classes",
        "--nudity-classes",
        type=str,
        help="what counts as nudity: esd9, strict6, core5 or comma-separated NudeNet classes; if "
        "given, also measured when nudity is not the concept (default: esd9 when it is)",
    )
    add(
        "--nudity.threshold",
        "--nudity-threshold",
        type=float,
        help="score above which a detection counts, in [0.01, 1] (default: 0.25, NudeNet's own)",
    )
    add(
        "--nudity.channels",
        "--nudity-channels",
        type=str,
        help="order of the colour channels: right, or swapped as NudeNet 3.4 itself reads files, "
        "to compare with figures published with it (default: right)",
    )


def _add_compute(parser: Parser) -> None:
    add = parser.add_argument_group("computing").add_argument
    add("--device", **DEVICE)
    with parser.rare():
        add("--deterministic", **DETERMINISTIC)
        add(
            "--channels-last",
            action="store_true",
            help="channels-last memory format, faster on recent GPUs (always on for a CPU)",
        )
        add(
            "--compile",
            action="store_true",
            help="compile the denoiser for sampling: a minute or more first, faster afterwards",
        )


def _compare_parser(text: str) -> ArgumentParser:
    parser = Parser(text, "erase compare --recipes A,B,… --concepts C,D,…|all [options]")
    add = parser.add_argument
    add(
        "--recipes",
        type=str,
        action="append",
        help='comma-separated names from "erase list recipes" or .toml files',
    )
    add(
        "--concepts",
        type=str,
        action="append",
        help='comma-separated names or prompts (one with a comma in double quotes), or "all" for '
        "the objects of the family (default: all)",
    )
    add("--anchor", type=str, help="what to make instead (default: each concept's own)")
    add("--seeds", type=int, default=1, help="runs per cell, with seeds 0, 1, … (default: 1)")
    add(
        "--include",
        type=str,
        nargs="+",
        action="extend",
        metavar="NAME=PATH",
        help="models erased by others, one row each: a diffusers folder, a run, a single file, "
        "a LoRA or LyCORIS file, a delta, or a state dict of the UNet; {concept} and {seed} stand "
        "for the cell's, and @0.5 after the path for a strength",
    )
    add_attacks(parser)
    _add_matrix_flags(parser, "runs/compare")
    return parser


def _tune_parser(text: str) -> ArgumentParser:
    parser = Parser(text, "erase tune --recipe NAME [options]")
    add = parser.add_argument
    add("--recipe", type=str, help='a name from "erase list recipes" or a .toml file')
    add(
        "--concepts",
        type=str,
        action="append",
        help="comma-separated names or prompts (default: those of the family marked for tuning)",
    )
    add("--anchor", type=str, help="what to make instead (default: each concept's own)")
    add("--trials", type=int, default=6, help="settings to try, >= 1 (default: 6)")
    add(
        "--forwards",
        type=float,
        default=12000,
        help="budget of a trial: images through the denoiser in mask, training and its share of "
        "making the training images; one with a gradient counts three times (default: 12000)",
    )
    _add_matrix_flags(parser, "runs/tune-RECIPE")
    add_attacks(parser)
    return parser


def _add_matrix_flags(parser: Parser, out: str) -> None:
    add = parser.add_argument
    text = "mini, a hub id, a folder or a single file (default: mini)"
    add("--model", type=str, default="mini", help=text)
    add("--out", type=str, help=f"folder (default: {out})")
    add("--retain", type=str, help=f"prompt set to keep: {SETS} (default: {RETAINED})")
    add("--overwrite", action="store_true", help="redo the cells whose settings changed")
    add("--dry-run", action="store_true", help="print the cells and do nothing")
    evaluation = _add_instruments(parser)
    _add_compute(parser)
    add_recipe_values(parser, evaluation)
    parser.tell_all()
