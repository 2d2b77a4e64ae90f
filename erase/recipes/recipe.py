"""Recipes: every setting of a run, from a flat TOML file and overrides, checked once.

A recipe file names its method and holds the settings of ``Recipe`` beside those of the method's
own ``Config``, all at the top level. What it leaves out keeps the default. A line ``about`` says
what it is, for ``erase list``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from erase.methods import list_methods, load_method
from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.files import is_hidden
from erase.runtime.tables import read_toml

if TYPE_CHECKING:
    from erase.prompts.concept import Concept


RECIPES = Path(__file__).parent


def _setting(default: Any, help: str, unit: str = "", **bounds: float) -> Any:
    """A field with its documentation and its range.

    Args:
        default: the value where a recipe has none.
        help: what it is.
        unit: of the number.
        bounds: ``min`` and ``max`` (inclusive), ``above`` (exclusive), ``multiple``.
    """
    metadata = {"help": help, **({"unit": unit} if unit else {}), **bounds}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Recipe:
    """Every setting of a run; the defaults are SalUn's for Stable Diffusion 1.4.

    Attributes:
        name: of the recipe file.
        config: the method's own settings, an instance of its ``Config``.
    """

    name: str
    method: str
    config: Any
    forget_images: int = _setting(800, "images of the concept to train on", min=1)
    retain_images: int = _setting(800, "images of retained prompts to train on", min=1)
    anchor_images: int = _setting(800, "images of the anchor to train on", min=1)
    size: int | None = _setting(
        None, "side of the images, the model's own if not given", "px", min=8, multiple=8
    )
    sampler: Literal["ddim", "dpm++", "lms"] = _setting("ddim", "scheduler that makes images")
    sampling_steps: int = _setting(50, "denoising steps of an image", min=1)
    guidance_scale: float = _setting(
        7.5, "classifier-free guidance scale of images; 1 is none", min=1.0
    )
    sampling_batch: int = _setting(8, "images made at a time", min=1)
    mask: Literal["saliency", "none", "random"] = _setting(
        "saliency", "weights that may move: the salient ones, all in scope, or as many at random"
    )
    scope: Literal[
        "full",
        "xattn",
        "xattn-kv",
        "noxattn",
        "noxattn-core",
        "full-no-norms",
        "noxattn-no-norms",
    ] = _setting(
        "full",
        "layers that the mask is drawn from: all, cross-attention (ESD's x), its keys and values "
        "(x-strict), all but cross-attention (u), that without output and time embedding, all and "
        "u without the norms (2025)",
    )
    ratio: float = _setting(0.5, "share of the scope's weights in the mask", above=0.0, max=1.0)
    saliency_guidance: float = _setting(
        7.5, "guidance w of the saliency loss; 0 is the plain loss", min=0.0
    )
    saliency_sum: Literal["signed", "absolute"] = _setting(
        "signed", "saliency of a weight: |sum of its gradients| or the sum of their |values|"
    )
    saliency_batch: int = _setting(8, "images a batch of the saliency pass", min=1)
    lr: float = _setting(1e-5, "learning rate", above=0.0)
    optimizer: Literal["adam", "adamw", "adam8bit", "sgd"] = _setting(
        "adam",
        "optimizer of the masked weights; adam8bit keeps its moments in 8 bits and needs the extra "
        "8bit",
    )
    weight_decay: float = _setting(0.0, "weight decay of the masked weights", min=0.0)
    lr_schedule: Literal["constant", "cosine"] = _setting(
        "constant", "course of the learning rate: the same throughout (as published), or to zero"
    )
    steps: int = _setting(100, "optimisation steps", min=1)
    batch_size: int = _setting(8, "images a step, of the concept and retained alike", min=1)
    micro_batch: int | None = _setting(
        None,
        "images of a role at a time within a step or a batch of the saliency pass, for less memory "
        "and the same result; all if not given (--saliency-sum absolute keeps the pass's batches "
        "whole)",
        min=1,
    )
    retain_empty: float = _setting(
        0.0,
        "share of retained images trained with the empty prompt, which guidance subtracts (none as "
        "published)",
        min=0.0,
        max=1.0,
    )
    checkpoint_every: int = _setting(100, "steps between checkpoints", min=1)
    eval_forget: int = _setting(200, "images of forget prompts a side in the report", min=0)
    eval_retain: int = _setting(200, "images of retained prompts a side in the report", min=1)
    eval_neighbours: int = _setting(100, "images a side of prompts close to the concept", min=0)
    eval_general: int = _setting(200, "images a side of everyday captions", min=0)
    eval_empty: int = _setting(50, "images a side of the empty prompt", min=0)
    precision: Literal["auto", "fp32", "bf16"] = _setting(
        "auto",
        "number format of the training's forward passes, auto is bf16 on a GPU that has it; the "
        "weights are kept in fp32",
    )
    low_memory: bool = _setting(
        False,
        "train in less memory: weights in bf16 with fp32 copies of the masked ones, "
        "activations computed twice, one image of a role at a time unless --micro-batch says "
        "otherwise, only the denoiser on the device",
    )


class Flag(NamedTuple):
    """One setting as the command line offers it.

    Attributes:
        name: the key in a recipe, and the flag after ``--``.
        type: of its value.
        default: where neither recipe nor flag gives one; None where there is none.
        metadata: ``help``, ``unit``, ``min``, ``max``, ``above``, ``multiple``, ``choices``,
            ``optional``, and ``needs``, another setting without which it has no effect.
    """

    name: str
    type: type
    default: Any
    metadata: Mapping[str, Any]

    @property
    def range(self) -> str:
        """The values that are allowed, in words; empty where any will do."""
        m = self.metadata
        if "choices" in m:
            return "one of " + ", ".join(map(str, m["choices"]))
        low = f"> {m['above']:g}" if "above" in m else f">= {m['min']:g}" if "min" in m else ""
        high = f"<= {m['max']:g}" if "max" in m else ""
        times = f"a multiple of {m['multiple']:g}" if "multiple" in m else ""
        return " and ".join(text for text in (low, high, times) if text)

    @property
    def help(self) -> str:
        """What it is, with unit and range."""
        details = "; ".join(text for text in (self.metadata.get("unit"), self.range) if text)
        return str(self.metadata["help"]) + (f" ({details})" if details else "")


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(f.stem for f in RECIPES.glob("*.toml") if not is_hidden(f))


def recipe_about(name: str) -> str:
    """What a recipe of the package says of itself in a line; empty where it says nothing."""
    return str(read_toml(RECIPES / f"{name}.toml", "The recipe").get("about", ""))


def default_recipe(model: str, concept: Concept | None = None) -> str:
    """The recipe of a run that names none, by its model and what it erases, if anything.

    What was published for Stable Diffusion 1.4 is the default of Stable Diffusion 1 alone.

    Raises:
        UserError: what was published for a concept may be its recipe or not, since the model is not
            here and the hub can't be asked. A guess would be another recipe once it is.
    """
    if model == "mini":
        return "salun-mini"
    published = None
    if concept is not None and concept.kind == "nudity":
        published = "salun-sd14-nudity"
    if concept is not None and concept.family == "imagenette":
        published = "salun-sd14-imagenette"
    if published is None:
        return "salun-sd"
    from erase.formats.generation import kind_of

    kind = kind_of(model)
    if kind is None:
        raise UserError(
            f"Whether '{clipped(model)}' is a Stable Diffusion 1, for which {published} was "
            "published, can't be asked on the hub now: add --recipe "
            f"{published}, or --recipe salun-sd for Stable Diffusion 2 or XL."
        )
    return published if kind == "1" else "salun-sd"


def recipe_for(name: str, model: str) -> str:
    """The recipe that ``name`` stands for with this model.

    The bundled model learns at rates that would wreck Stable Diffusion, and the reverse: with it,
    ``esd-x`` stands for ``esd-x-mini`` where there is such a recipe.
    """
    own = f"{name}-mini"
    return own if model == "mini" and own in list_recipes() else name


def config_class(method: str) -> type[Any]:
    """The ``Config`` of a method.

    Raises:
        UserError: unknown method.
    """
    methods = list_methods()
    if method not in methods:
        raise UserError(
            f"There is no method '{clipped(method)}'.{nearest(method, methods)} "
            f"Choose from {', '.join(methods)}."
        )
    return load_method(method).Config


LOOP_KEYS = (
    *("mask", "ratio", "saliency_guidance", "saliency_sum", "saliency_batch", "forget_images"),
    *("lr", "lr_schedule", "optimizer", "weight_decay", "steps", "batch_size"),
    *("micro_batch", "checkpoint_every", "precision", "low_memory"),
)
"""Settings that only a method which trains step by step has a use for."""


SALIENCY_KEYS = ("saliency_guidance", "saliency_sum", "saliency_batch")


def idle(settings: Mapping[str, Any]) -> frozenset[str]:
    """Settings that have no effect beside the others.

    Args:
        settings: as ``as_dict`` gives them.
    """
    mask, needs = settings.get("mask", "none"), load_method(settings["method"]).NEEDS
    found = set() if mask == "saliency" else set(SALIENCY_KEYS)
    if mask == "none":
        found.add("ratio")
    if mask != "saliency" and "forget" not in needs.images:
        found.add("forget_images")
    for role, weight in needs.weighed.items():
        if not settings[weight]:
            found |= {f"{role}_images", f"{role}_empty"}
    for own in fields(config_class(settings["method"])):
        if "needs" in own.metadata and not settings[own.metadata["needs"]]:
            found.add(own.name)
    return frozenset(found & settings.keys())


@cache
def flags(method: str) -> tuple[Flag, ...]:
    """The settings of a recipe of this method: the general ones it has a use for, then its own.

    Raises:
        UserError: unknown method.
    """
    own = _flags(config_class(method))
    needs = load_method(method).NEEDS
    left_out = {"name", "method", "config"}
    if not needs.loop:
        left_out |= set(LOOP_KEYS)
    if needs.scope:
        left_out.add("scope")
    if "retain" not in needs.images:
        left_out |= {"retain_images", "retain_empty"}
    if "anchor" not in needs.images:
        left_out.add("anchor_images")
    return (*(f for f in _flags(Recipe) if f.name not in left_out), *own)


def load_recipe(name_or_file: str, overrides: Mapping[str, object] | None = None) -> Recipe:
    """Reads a recipe by its name or from a TOML file; overrides come first.

    Args:
        name_or_file: one of ``list_recipes()``, or a path that ends in ``.toml``.
        overrides: settings by name, ``method`` among them; as values, or as the text of a command
            line.

    Raises:
        UserError: unknown recipe, method or key, unreadable file, a value of the wrong type or
            out of range.
    """
    if name_or_file in list_recipes():
        file = RECIPES / f"{name_or_file}.toml"
    elif name_or_file.endswith(".toml"):
        file = Path(name_or_file)
    else:
        raise UserError(
            f"There is no recipe '{name_or_file}'.{nearest(name_or_file, list_recipes())} "
            "'erase list' shows them; a file of your own ends in .toml."
        )
    values = read_toml(file, "The recipe")
    values.pop("about", None)
    return make_recipe(file.stem, values, overrides)


def make_recipe(
    name: str, values: Mapping[str, object], overrides: Mapping[str, object] | None = None
) -> Recipe:
    """A recipe from its settings by name, checked; arguments and errors as for ``load_recipe``."""
    given = {**values, **(overrides or {})}
    method = given.pop("method", None)
    if not isinstance(method, str):
        raise UserError(f'The recipe {name} names no method: add method = "salun", for example.')
    offered = {flag.name: flag for flag in flags(method)}
    checked: dict[str, Any] = {}
    for key, value in given.items():
        if key not in offered:
            raise UserError(
                f"'{clipped(key)}' is not a setting of the method {method}.{nearest(key, offered)} "
                "'erase run --help' shows them all."
            )
        flag = offered[key]
        if overrides and key in overrides and isinstance(value, str):
            value = _from_text(flag, value)
        checked[key] = _check(flag, value)
    config = config_class(method)
    own = {f.name for f in fields(config)}
    general = {k: v for k, v in checked.items() if k not in own}
    needs = load_method(method).NEEDS
    if needs.scope:
        general["scope"] = needs.scope
    if not needs.loop:
        general["mask"] = "none"
    settings = config(**{k: v for k, v in checked.items() if k in own})
    made = Recipe(name=name, method=method, config=settings, **general)
    for key in sorted(idle(as_dict(made)) & set(overrides or {})):
        why = f"whose mask is '{made.mask}'" if key in (*SALIENCY_KEYS, "ratio") else "as it is set"
        raise UserError(f"--{key.replace('_', '-')} has no effect on {name}, {why}: leave it out.")
    return made


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as flat settings; without ``name`` they make the same recipe again."""
    offered = {flag.name for flag in flags(recipe.method)} | {"name", "method"}
    general = {f.name: getattr(recipe, f.name) for f in fields(recipe) if f.name in offered}
    own = {f.name: getattr(recipe.config, f.name) for f in fields(recipe.config)}
    return general | own


def _flags(cls: type[Any]) -> list[Flag]:
    hints = get_type_hints(cls)
    return [_flag(f, hints[f.name]) for f in fields(cls)]


def _flag(setting: Field[Any], hint: Any) -> Flag:
    metadata = dict(setting.metadata)
    if get_origin(hint) is Literal:
        metadata["choices"] = get_args(hint)
        hint = type(get_args(hint)[0])
    elif type(None) in get_args(hint):
        metadata["optional"] = True
        hint = next(h for h in get_args(hint) if h is not type(None))
    default = None if setting.default is MISSING else setting.default
    return Flag(setting.name, hint, default, MappingProxyType(metadata))


def _from_text(flag: Flag, text: str) -> object:
    """The value that a text stands for, or the text itself where it stands for none."""
    if flag.type is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return flag.type(text)
    except ValueError:
        return text


def _check(flag: Flag, value: object) -> object:
    """The value in the flag's type.

    Raises:
        UserError: wrong type or out of range.
    """
    bounds = flag.metadata
    if value is None and bounds.get("optional"):
        return None
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    # Not isinstance: bool is a subclass of int, and steps = true is a mistake.
    fits = type(value) is flag.type or (flag.type is float and type(value) is int)
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise UserError(f"{flag.name} is {clipped(repr(value))}: it must be {words[flag.type]}.")
    if "choices" in bounds and value not in bounds["choices"]:
        near = nearest(str(value), map(str, bounds["choices"]))
        raise UserError(f"{flag.name} is {clipped(repr(value))}: it must be {flag.range}.{near}")
    if isinstance(value, int | float) and not _inside(value, bounds):
        raise UserError(f"{flag.name} is {clipped(value)}: it must be {flag.range}.")
    return flag.type(value)


def _inside(value: float, bounds: Mapping[str, Any]) -> bool:
    return bool(
        value >= bounds.get("min", -math.inf)
        and value > bounds.get("above", -math.inf)
        and value <= bounds.get("max", math.inf)
        and ("multiple" not in bounds or value % bounds["multiple"] == 0)
    )
