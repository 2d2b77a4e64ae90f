"""Recipe values as flags of the command line, each with its range and a value in use."""

from __future__ import annotations

from argparse import SUPPRESS
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from erase.methods import list_methods
from erase.recipes.recipe import (
    Recipe,
    as_dict,
    flags,
    idle,
    list_recipes,
    load_recipe,
    own_settings,
)
from erase.recipes.settings import Flag

if TYPE_CHECKING:
    from erase.cli.arguments import Parser

OFTEN = (
    *("forget_images", "retain_images", "steps", "lr", "ratio", "low_memory"),
    *("size", "sampling_steps", "guidance_scale", "eval_forget", "eval_retain"),
)
"""Recipe values that are often changed."""


METAVARS = {int: "N", float: "X", str: "NAME"}


def add_recipe_values(
    parser: Parser, evaluation: Any, shown: bool = True, about: str | None = None
) -> None:
    """A flag for each setting, those of the evaluation in their group.

    Args:
        parser: gets them.
        evaluation: the group of the evaluation.
        shown: whether help tells of them; not where they can say nothing new, of images that exist
            already.
        about: recipe or method that help is asked about: its settings with its values, and nothing
            of other methods.
    """
    text = "a flag overrides the recipe's value; in parentheses, an example of such a value"
    told = _told(about) if about else None
    if told:
        text = f"a flag overrides the recipe's value; in parentheses, the value in {told.name}"
    group = parser.add_argument_group("recipe values", text if shown else SUPPRESS)
    own = _own_group(parser, told) if shown else None
    found = of_all(list_methods(), flags)
    for name, said in found.items():
        asked = [one for one in said if told is None or told.method in one.users]
        text = SUPPRESS
        if shown and asked:
            text = f"{words(asked, _unnamed if told else only)} {_example(name, told)}"
        home = evaluation if name.startswith("eval_") else group
        if own is not None and told and name in own_settings(told):
            home = own
        home.add_argument(f"--{name.replace('_', '-')}", help=text, **taken(said[0].flag))
    kept = {*OFTEN, *(own_settings(told) if told else ())}
    parser.more |= found.keys() - kept


class Said(NamedTuple):
    """A setting as some methods have it: two may mean different things by one name."""

    flag: Flag
    users: list[str]


def of_all(methods: Iterable[str], flags: Callable[[str], Iterable[Flag]]) -> dict[str, list[Said]]:
    """The settings of all methods by name, each as often as methods say different things of it."""
    found: dict[str, dict[str, Said]] = {}
    for method in methods:
        for flag in flags(method):
            said = found.setdefault(flag.name, {})
            said.setdefault(flag.help, Said(flag, [])).users.append(method)
    return {name: list(said.values()) for name, said in found.items()}


def words(said: Sequence[Said], only: Callable[[Sequence[str]], str]) -> str:
    """What methods say of a setting, each with those that say so, as ``only`` names them."""
    return "; or ".join(f"{one.flag.help}{only(one.users)}" for one in said)


def taken(flag: Flag) -> dict[str, Any]:
    """How argparse takes a setting; of a switch, --low-memory alone is --low-memory true."""
    if flag.type in METAVARS:
        return {"type": flag.type, "metavar": METAVARS[flag.type]}
    return {"type": flag.type, "nargs": "?", "const": True}


def _told(about: str) -> Recipe:
    """The recipe, or the first one of the method, the bundled model's before others."""
    if about in list_methods():
        names = sorted(list_recipes(), key=lambda name: not name.endswith("-mini"))
        own = (name for name in names if load_recipe(name).method == about)
        about = next(own, about)
    return load_recipe(about)


def _own_group(parser: Parser, told: Recipe | None) -> Any:
    """The group of a method's own settings; where none is asked about, a line says how to ask."""
    if told:
        return parser.add_argument_group(f"settings of {told.method} alone")
    parser.epilog = (
        "'--method NAME --help' or '--recipe NAME --help' shows a method's own settings, "
        "'--help-all' those of every method."
    )
    return None


def _unnamed(users: Sequence[str]) -> str:
    return ""


def only(users: Sequence[str]) -> str:
    """Which methods have a setting, the shorter way round."""
    others = [method for method in list_methods() if method not in users]
    if not others:
        return ""
    named = users if len(users) <= len(others) else ["not", *others]
    return f" [{', '.join(named).replace('not, ', 'not ')}]"


def _example(setting: str, told: Recipe | None) -> str:
    """The value in the recipe asked about, else in the bundled model's default recipe or in the
    first that has the setting."""
    known = {told.name: as_dict(told)} if told else _recipes()
    for name, settings in known.items():
        if setting in settings:
            value = settings[setting]
            if value is None:
                return "(not given)"
            prefix = "" if told else f"{name}: "
            shown = str(value).lower() if isinstance(value, bool) else value
            return f"({prefix}{shown:g})" if isinstance(value, float) else f"({prefix}{shown})"
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
