"""Recipe values as flags of the command line, each with its range and a value in use."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from erase.methods import list_methods
from erase.recipes.recipe import as_dict, flags, idle, list_recipes, load_recipe
from erase.recipes.settings import Flag

if TYPE_CHECKING:
    from erase.cli.arguments import Parser

OFTEN = (
    *("forget_images", "retain_images", "steps", "lr", "ratio", "low_memory"),
    *("size", "sampling_steps", "guidance_scale", "eval_forget", "eval_retain"),
)
"""Recipe values that are often changed."""


METAVARS = {int: "N", float: "X", str: "NAME"}


def add_recipe_values(parser: Parser, evaluation: Any, shown: bool = True) -> None:
    """A flag for each setting, those of the evaluation in their group; not ``shown`` where they
    can say nothing new, of images that exist already."""
    text = "a flag overrides the recipe's value; in parentheses, an example of such a value"
    group = parser.add_argument_group("recipe values", text if shown else SUPPRESS)
    users: dict[str, list[str]] = {}
    found: dict[str, Flag] = {}
    for method in list_methods():
        for flag in flags(method):
            users.setdefault(flag.name, []).append(method)
            found.setdefault(flag.name, flag)
    for name, flag in found.items():
        text = f"{flag.help} {_example(name)}{only(users[name])}" if shown else SUPPRESS
        # --low-memory alone is --low-memory true.
        way: Any = {"nargs": "?", "const": True} if flag.type is bool else {}
        if flag.type in METAVARS:
            way = {"metavar": METAVARS[flag.type]}
        home = evaluation if name.startswith("eval_") else group
        home.add_argument(f"--{name.replace('_', '-')}", type=flag.type, help=text, **way)
    parser.more |= found.keys() - set(OFTEN)


def only(users: Sequence[str]) -> str:
    """Which methods have a setting, the shorter way round."""
    others = [method for method in list_methods() if method not in users]
    if not others:
        return ""
    named = users if len(users) <= len(others) else ["not", *others]
    return f" [{', '.join(named).replace('not, ', 'not ')}]"


def _example(setting: str) -> str:
    """The value in the bundled model's default recipe, or in the first that has the setting."""
    for name, settings in _recipes().items():
        if setting in settings:
            value = settings[setting]
            if value is None:
                return "(not given)"
            shown = str(value).lower() if isinstance(value, bool) else value
            return f"({name}: {shown:g})" if isinstance(value, float) else f"({name}: {shown})"
    return "(not given)"


@cache
def _recipes() -> Mapping[str, Mapping[str, Any]]:
    """The settings with an effect of every recipe, the bundled model's first."""
    names = sorted(list_recipes(), key=lambda name: not name.endswith("-mini"))
    found = {}
    for name in dict.fromkeys(["salun-mini", *names]):
        settings = as_dict(load_recipe(name))
        unused = idle(settings)
        found[name] = {k: v for k, v in settings.items() if k not in unused}
    return found
