"""Recipes of classifiers that forget: a method with its settings, from one TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from erase.classifiers.methods import list_methods, load_method
from erase.recipes.settings import Flag, flags_of, setting
from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.files import is_hidden
from erase.runtime.tables import read_toml

RECIPES = Path(__file__).parent / "classifiers"
NOTES = ("about", "start")
"""In a recipe file, but no settings."""
MASK: Mapping[str, Any] = {"stage": "mask"}
UNLEARN: Mapping[str, Any] = {"stage": "unlearn", "loop": True}


@dataclass(frozen=True)
class ClassifierRecipe:
    """Every setting of unlearning; the defaults are SalUn's for CIFAR-10, as published.

    Attributes:
        name: of the recipe file.
        method: one of ``classifiers.methods.list_methods()``.
        config: the method's own settings, an instance of its ``Config``.
    """

    name: str
    method: str
    config: Any
    mask: Literal["saliency", "none", "random"] = setting(
        "saliency", "weights that may move: the salient ones, all, or as many at random", **MASK
    )
    ratio: float = setting(
        0.5,
        "share of the weights in the mask",
        above=0.0,
        max=1.0,
        masks=("saliency", "random"),
        **MASK,
    )
    epochs: float = setting(10.0, "passes over the samples the method uses", above=0.0, **UNLEARN)
    lr: float = setting(0.013, "learning rate", above=0.0, **UNLEARN)
    optimizer: Literal["sgd", "adam", "adamw"] = setting(
        "sgd", "optimizer of the masked weights; sgd has a momentum of 0.9", **UNLEARN
    )
    weight_decay: float = setting(5e-4, "weight decay of the masked weights", min=0.0, **UNLEARN)
    lr_schedule: Literal["constant", "cosine", "step"] = setting(
        "constant",
        "learning rate: constant, falling to zero along a cosine, or a tenth after half of the "
        "steps and a hundredth after three quarters",
        **UNLEARN,
    )
    batch_size: int = setting(64, "samples a step", min=1, **UNLEARN)
    batchnorm: Literal["auto", "frozen", "moving"] = setting(
        "auto",
        "running statistics of BatchNorm: frozen, moving (which changes the network outside the "
        "mask), or auto, frozen under a mask and moving without one",
        **UNLEARN,
    )


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(f.stem for f in RECIPES.glob("*.toml") if not is_hidden(f))


def recipe_about(name: str) -> str:
    """What a recipe of the package says of itself in a line; empty where it says nothing."""
    return str(read_toml(RECIPES / f"{name}.toml", "The recipe").get("about", ""))


def flags(method: str) -> tuple[Flag, ...]:
    """The settings of a recipe of this method: the general ones it has a use for, then its own."""
    needs = load_method(method).NEEDS
    general = (
        flag
        for flag in flags_of(ClassifierRecipe)
        if (needs.loop or not flag.metadata.get("loop"))
        and (needs.mask or "mask" not in flag.stages)
    )
    return (*general, *flags_of(load_method(method).Config))


def load_recipe(
    name_or_file: str, overrides: Mapping[str, object] | None = None
) -> ClassifierRecipe:
    """Reads a recipe by its name or from a TOML file; overrides come first.

    Args:
        name_or_file: one of ``list_recipes()``, a method's name for its defaults, or a path that
            ends in ``.toml``.
        overrides: settings by name; as values, or as the text of a command line.

    Raises:
        UserError: unknown recipe, method or key, unreadable file, a value of the wrong type or
            out of range.
    """
    if name_or_file.endswith(".toml"):
        values = read_toml(Path(name_or_file), "The recipe")
    elif name_or_file in list_recipes():
        values = read_toml(RECIPES / f"{name_or_file}.toml", "The recipe")
    elif name_or_file in list_methods():
        values = {"method": name_or_file}
    else:
        known = [*list_recipes(), *list_methods()]
        raise UserError(
            f"There is no recipe '{clipped(name_or_file)}'.{nearest(name_or_file, known)} "
            "'erase classifier list recipes' shows them; a file of your own ends in .toml."
        )
    name = Path(name_or_file).stem if name_or_file.endswith(".toml") else name_or_file
    return make_recipe(name, {k: v for k, v in values.items() if k not in NOTES}, overrides)


def make_recipe(
    name: str, values: Mapping[str, object], overrides: Mapping[str, object] | None = None
) -> ClassifierRecipe:
    """A recipe from its settings by name, checked; arguments and errors as for ``load_recipe``."""
    given = {**values, **(overrides or {})}
    method = given.pop("method", None)
    if method is None:
        raise UserError(
            f'The recipe {name} names no method: add method = "salun", or another one of '
            f"{', '.join(list_methods())}."
        )
    if method not in list_methods():
        raise UserError(
            f"There is no classifier method '{clipped(str(method))}'."
            f"{nearest(str(method), list_methods())} Choose from {', '.join(list_methods())}."
        )
    offered = {flag.name: flag for flag in flags(str(method))}
    checked: dict[str, Any] = {}
    for key, value in given.items():
        if key not in offered:
            raise UserError(
                f"'{clipped(key)}' is not a setting of the method {method}.{nearest(key, offered)}"
            )
        flag = offered[key]
        if overrides and key in overrides and isinstance(value, str):
            value = flag.parsed(value)
        checked[key] = flag.checked(value)
    config = load_method(str(method)).Config
    own = {f.name for f in fields(config)}
    general = {k: v for k, v in checked.items() if k not in own}
    if not load_method(str(method)).NEEDS.mask:
        general["mask"] = "none"
    settings = config(**{k: v for k, v in checked.items() if k in own})
    made = ClassifierRecipe(name=name, method=str(method), config=settings, **general)
    for key in sorted(overrides or {}):
        if key in offered and made.mask not in offered[key].metadata.get("masks", (made.mask,)):
            raise UserError(
                f"--{key.replace('_', '-')} has no effect on {name}, whose mask is '{made.mask}': "
                "leave it out."
            )
    return made


def as_dict(recipe: ClassifierRecipe) -> dict[str, Any]:
    """The recipe as flat settings; without ``name`` they make the same recipe again."""
    offered = {flag.name for flag in flags(recipe.method)} | {"name", "method"}
    general = {f.name: getattr(recipe, f.name) for f in fields(recipe) if f.name in offered}
    own = (f.name for f in fields(recipe.config))
    return general | {name: getattr(recipe.config, name) for name in own}


def keys(method: str, stage: str) -> tuple[str, ...]:
    """The settings that a stage reads; the method's own are read by ``unlearn``."""
    return tuple(
        flag.name
        for flag in flags(method)
        if stage in flag.stages or (stage == "unlearn" and not flag.stages)
    )
