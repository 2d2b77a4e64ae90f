"""Recipes: every setting of a run, from a flat TOML file and overrides, checked once.

A recipe file names its method and holds the settings of ``Recipe`` beside those of the method's
own ``Config``, all at the top level. What it leaves out keeps the default. A line ``about`` says
what it is, for ``erase list``; a table ``[start]`` holds what a search goes around where the
recipe's own values came out of one. A method's name stands for its defaults where no file has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from erase.methods import list_methods, list_unnamed, load_method
from erase.recipes.settings import Flag, flags_of, setting
from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.files import digest, identity, is_hidden
from erase.runtime.tables import read_toml

RECIPES = Path(__file__).parent
NOTES = ("about", "start")
"""In a recipe file, but no settings."""

MASK: Mapping[str, Any] = {"stage": "mask", "loop": True, "part": "denoiser"}
SALIENCY: Mapping[str, Any] = {**MASK, "masks": ("saliency",)}
TRAIN: Mapping[str, Any] = {"stage": "train", "loop": True}
SAMPLING: Mapping[str, Any] = {"stage": ("images", "base", "erased")}
EVAL: Mapping[str, Any] = {"stage": "eval"}
"""Of the fields below: the stages that read them, and without what they have no effect; see
``settings.Flag``. Settings that no stage reads change no result."""


@dataclass(frozen=True)
class Recipe:
    """Every setting of a run. The defaults are a fallback; published settings are in recipe files.

    Attributes:
        name: of the recipe file.
        config: the method's own settings, an instance of its ``Config``.
    """

    name: str
    method: str
    config: Any
    forget_images: int = setting(
        800, "training images of the concept", min=1, stage="images", role="forget", loop=True
    )
    retain_images: int = setting(
        800, "training images of retained prompts", min=1, stage="images", role="retain"
    )
    anchor_images: int = setting(
        800, "training images of the anchor", min=1, stage="images", role="anchor"
    )
    size: int | None = setting(
        None,
        "side length of the images; the model's own if not given",
        "px",
        min=8,
        multiple=8,
        **SAMPLING,
    )
    sampler: Literal["ddim", "dpm++", "lms"] = setting("ddim", "sampler of the images", **SAMPLING)
    sampling_steps: int = setting(50, "denoising steps per image", min=1, **SAMPLING)
    guidance_scale: float = setting(
        7.5, "classifier-free guidance scale of the images; 1 for none", min=1.0, **SAMPLING
    )
    sampling_batch: int = setting(8, "images made at a time", min=1, **SAMPLING)
    mask: Literal["saliency", "none", "random"] = setting(
        "saliency",
        "weights that may move: the salient ones, all in scope, or as many at random",
        **MASK,
    )
    scope: Literal[
        "full",
        "xattn",
        "xattn-kv",
        "noxattn",
        "noxattn-core",
        "full-no-norms",
        "noxattn-no-norms",
    ] = setting(
        "full",
        "layers that the mask is drawn from: all; cross-attention (esd-x); its keys and values "
        "(esd-x-strict); all but cross-attention; those without output layers and time embedding "
        "(esd-u); all, or all but cross-attention, without norms (esd-2025)",
        stage="mask",
    )
    ratio: float = setting(
        0.5,
        "share of the scope's weights in the mask",
        above=0.0,
        max=1.0,
        **MASK,
        masks=("saliency", "random"),
    )
    saliency_guidance: float = setting(
        7.5, "guidance w of the saliency loss; 0 is the plain loss", min=0.0, **SALIENCY
    )
    saliency_sum: Literal["signed", "absolute"] = setting(
        "signed",
        "saliency of a weight: |sum of its gradients|, or the sum of |its gradients|",
        **SALIENCY,
    )
    saliency_batch: int = setting(8, "batch size of the saliency pass", min=1, **SALIENCY)
    lr: float = setting(1e-5, "learning rate", above=0.0, **TRAIN)
    optimizer: Literal["adam", "adamw", "adam8bit", "sgd"] = setting(
        "adam",
        "optimizer of the masked weights; adam8bit keeps its moments in 8 bits and needs the extra "
        "8bit",
        **TRAIN,
    )
    weight_decay: float = setting(0.0, "weight decay of the masked weights", min=0.0, **TRAIN)
    lr_schedule: Literal["constant", "cosine"] = setting(
        "constant",
        "learning-rate schedule: constant (as published), or cosine decay to zero",
        **TRAIN,
    )
    steps: int = setting(100, "optimisation steps", min=1, **TRAIN)
    batch_size: int = setting(
        8, "batch size: forget images per step, and as many retained", min=1, **TRAIN
    )
    micro_batch: int | None = setting(
        None,
        "forget images at a time (and as many retained) within a step or a saliency batch: less "
        "memory, same result; all if not given (--saliency-sum absolute keeps saliency batches "
        "whole)",
        min=1,
        **TRAIN,
    )
    retain_empty: float = setting(
        0.0,
        "share of retained images trained with the empty prompt, which guidance subtracts "
        "(published: none for prompts, a tenth for classes)",
        min=0.0,
        max=1.0,
        stage="train",
        role="retain",
    )
    checkpoint_every: int = setting(100, "steps between checkpoints", min=1, loop=True)
    eval_forget: int = setting(200, "evaluation images of forget prompts, per model", min=0, **EVAL)
    eval_retain: int = setting(
        200, "evaluation images of retained prompts, per model", min=1, **EVAL
    )
    eval_neighbours: int = setting(
        100, "evaluation images of prompts close to the concept, per model", min=0, **EVAL
    )
    eval_general: int = setting(
        200, "evaluation images of everyday captions, per model", min=0, **EVAL
    )
    eval_empty: int = setting(50, "evaluation images of the empty prompt, per model", min=0, **EVAL)
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto",
        "number format of training's forward passes; auto is bf16 on a GPU that supports it; the "
        "weights stay in fp32",
        **TRAIN,
    )
    low_memory: bool = setting(
        False,
        "train in less memory: weights in bf16 with fp32 copies of the masked ones, "
        "activations recomputed, --micro-batch 1 unless given, and only the denoiser on the "
        "device",
        stage=("mask", "train"),
        loop=True,
        part="denoiser",
    )


def list_recipes() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(f.stem for f in RECIPES.glob("*.toml") if not is_hidden(f))


def recipe_about(name: str) -> str:
    """What a recipe of the package says of itself in a line; empty where it says nothing."""
    return str(read_toml(RECIPES / f"{name}.toml", "The recipe").get("about", ""))


def config_class(method: str, methods: Sequence[str] | None = None) -> type[Any]:
    """The ``Config`` of a method, one of ``methods``, or of ``list_methods()`` if not given.

    Raises:
        UserError: it is none of them.
    """
    methods = methods or list_methods()
    if method not in methods:
        raise UserError(
            f"There is no method '{clipped(method)}'.{nearest(method, methods)} "
            f"Choose from {', '.join(methods)}."
        )
    return load_method(method).Config


def idle(settings: Mapping[str, Any]) -> frozenset[str]:
    """Settings that have no effect beside the others.

    Args:
        settings: as ``as_dict`` gives them.
    """
    mask, needs = settings.get("mask", "none"), load_method(settings["method"]).NEEDS
    weighed: set[str] = {r for r, weight in needs.weighed.items() if not settings[weight]}
    if mask != "saliency" and "forget" not in needs.images:
        weighed.add("forget")
    found = set()
    for flag in flags(settings["method"]):
        needed, barred = flag.metadata.get("needs"), flag.metadata.get("without")
        if (
            mask not in flag.metadata.get("masks", (mask,))
            or flag.metadata.get("role") in weighed
            or (needed is not None and not settings[needed])
            or (barred is not None and settings[barred])
        ):
            found.add(flag.name)
    return frozenset(found & settings.keys())


@cache
def flags(method: str) -> tuple[Flag, ...]:
    """The settings of a recipe of this method: the general ones it has a use for, then its own."""
    own = flags_of(load_method(method).Config)
    needs = load_method(method).NEEDS
    # Images of the concept may be the mask's.
    roles = {None, *needs.images} | ({"forget"} if needs.part == "denoiser" else set())
    return (
        *(
            flag
            for flag in flags_of(Recipe)
            if (needs.loop or not flag.metadata.get("loop"))
            and flag.metadata.get("role") in roles
            and flag.metadata.get("part", needs.part) == needs.part
            and not (needs.scope and flag.name == "scope")
        ),
        *own,
    )


@cache
def keys(*stages: str) -> tuple[str, ...]:
    """The settings of a recipe that one of the stages reads, the method's own aside.

    ``eval`` reads how many images it asks for; the values enter no stage's hash, the images do.
    """
    return tuple(f.name for f in flags_of(Recipe) if {*stages} & {*f.stages})


def load_recipe(name_or_file: str, overrides: Mapping[str, object] | None = None) -> Recipe:
    """Reads a recipe by its name or from a TOML file; overrides come first.

    Args:
        name_or_file: one of ``list_recipes()``, a method's name, or a path that ends in ``.toml``.
        overrides: settings by name, ``method`` among them; as values, or as the text of a command
            line.

    Raises:
        UserError: unknown recipe, method or key, unreadable file, a value of the wrong type or
            out of range.
    """
    values = _read(name_or_file)
    name = Path(name_or_file).stem if name_or_file.endswith(".toml") else name_or_file
    return make_recipe(name, {k: v for k, v in values.items() if k not in NOTES}, overrides)


def written(name_or_file: str) -> frozenset[str]:
    """The settings that a recipe's file states; arguments and errors as for ``load_recipe``."""
    return frozenset(_read(name_or_file)) - set(NOTES)


def recipe_start(name_or_file: str) -> dict[str, Any]:
    """What a search goes around instead of a recipe's own values; arguments and errors as for
    ``load_recipe``."""
    start = _read(name_or_file).get("start", {})
    if not isinstance(start, dict):
        raise UserError(f"'start' in the recipe {name_or_file} is not a table: write [start].")
    return start


def _read(name_or_file: str) -> dict[str, Any]:
    if name_or_file.endswith(".toml"):
        return read_toml(Path(name_or_file), "The recipe")
    if name_or_file in list_recipes():
        return read_toml(RECIPES / f"{name_or_file}.toml", "The recipe")
    if name_or_file in list_methods():
        return {"method": name_or_file}
    raise UserError(
        f"There is no recipe '{name_or_file}'.{nearest(name_or_file, list_recipes())} "
        "'erase list recipes' shows them; a recipe file of your own must end in .toml."
    )


def recorded_recipe(
    saved: Mapping[str, object], overrides: Mapping[str, object] | None = None
) -> Recipe:
    """The recipe that a run's folder tells of, also of a model that no recipe can make; see
    ``as_dict`` and ``load_recipe``."""
    values = {k: v for k, v in saved.items() if k != "name"}
    return make_recipe(str(saved["name"]), values, overrides, (*list_methods(), *list_unnamed()))


def make_recipe(
    name: str,
    values: Mapping[str, object],
    overrides: Mapping[str, object] | None = None,
    methods: Sequence[str] | None = None,
) -> Recipe:
    """A recipe from its settings by name, checked; arguments and errors as for ``load_recipe``.
    Its method is one of ``methods``, or of ``list_methods()`` where they are not given."""
    given = {**values, **(overrides or {})}
    method = given.pop("method", None)
    if not isinstance(method, str):
        raise UserError(f'The recipe {name} names no method: add method = "salun", for example.')
    config = config_class(method, methods)
    offered = {flag.name: flag for flag in flags(method)}
    own = {f.name for f in fields(config)}
    checked: dict[str, Any] = {}
    for key, value in given.items():
        if key in own and key not in offered:  # a fact that is told, not a setting
            checked[key] = value
            continue
        if key not in offered:
            raise UserError(
                f"'{clipped(key)}' is not a setting of the method {method}.{nearest(key, offered)} "
                "'erase run --help' shows them all."
            )
        flag = offered[key]
        if overrides and key in overrides and isinstance(value, str):
            value = flag.parsed(value)
        checked[key] = flag.checked(value)
    general = {k: v for k, v in checked.items() if k not in own}
    needs = load_method(method).NEEDS
    if needs.scope:
        general["scope"] = needs.scope
    if "mask" not in offered:
        general["mask"] = "none"
    settings = config(**{k: v for k, v in checked.items() if k in own})
    made = Recipe(name=name, method=method, config=settings, **general)
    for key in sorted(idle(as_dict(made)) & set(overrides or {})):
        masked = "masks" in offered[key].metadata
        why = f"whose mask is '{made.mask}'" if masked else "given its other settings"
        raise UserError(f"--{key.replace('_', '-')} has no effect on {name}, {why}: leave it out.")
    return made


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as flat settings; without ``name`` they make the same recipe again."""
    offered = {flag.name for flag in flags(recipe.method)} | {"name", "method"}
    general = {f.name: getattr(recipe, f.name) for f in fields(recipe) if f.name in offered}
    return general | own_settings(recipe)


def recipe_text(recipe: Recipe, heading: str) -> str:
    """A recipe as TOML, under a comment."""
    head = "".join(f"# {line}\n" for line in heading.splitlines())
    values = {k: v for k, v in as_dict(recipe).items() if k != "name" and v is not None}
    # TOML's texts, numbers and booleans are JSON's.
    return head + "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in values.items())


def own_settings(recipe: Recipe) -> dict[str, Any]:
    """Those of the settings that its method states."""
    own = (f.name for f in fields(recipe.config) if "reads" not in f.metadata)
    return {name: getattr(recipe.config, name) for name in own}


def files_read(recipe: Recipe) -> dict[str, str]:
    """What the method reads from elsewhere, by the name that stands for it: the hash of a place's
    files, or of those of several."""
    return {
        key: identity(at) if isinstance(at, Path) else digest([identity(one) for one in at])
        for key, at in _places(recipe)
    }


def paths_read(recipe: Recipe) -> list[Path]:
    """The places whose files ``files_read`` hashes."""
    return [one for _, at in _places(recipe) for one in ([at] if isinstance(at, Path) else at)]


def _places(recipe: Recipe) -> list[tuple[str, Path | Sequence[Path]]]:
    """What the method reads from elsewhere: the name that stands for it, and where it lies."""
    found = (
        (f.metadata.get("reads"), getattr(recipe.config, f.name)) for f in fields(recipe.config)
    )
    return [(key, at) for key, at in found if key]
