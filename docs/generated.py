"""Pages that come from the code: one for each method, from its docstring and settings, and one for
each command, from the parser. A new method or flag needs no word here."""

from __future__ import annotations

import ast
import re
import textwrap
from argparse import SUPPRESS, Action, ArgumentParser
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from erase.cli.listing import first_line, made_for
from erase.cli.parser import build_parser
from erase.methods import METHODS, Needs, edits, list_methods, load_method
from erase.recipes.recipe import list_recipes, load_recipe, recipe_about
from erase.recipes.settings import Flag, flags_of

ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
VALUES = "recipe values"
"""Flags that many commands share: they are told once."""


def write(docs: Path) -> None:
    """Writes the pages below ``docs``, and removes those of what is gone."""
    for folder, pages in (("methods", method_pages()), ("commands", command_pages())):
        place = docs / folder
        place.mkdir(exist_ok=True)
        for file in place.glob("*.md"):
            if file.stem not in pages:
                file.unlink()
        for name, text in pages.items():
            file = place / f"{name}.md"
            if not file.exists() or file.read_text(encoding="utf-8") != text:
                file.write_text(text, encoding="utf-8")


def method_pages() -> dict[str, str]:
    """Markdown by method."""
    return {name: "\n\n".join(_method(name)) + "\n" for name in list_methods()}


def _method(name: str) -> Iterator[str]:
    source = METHODS / f"{name}.py"
    text = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))) or ""
    head, _, body = text.partition("\n\n")
    method, recipes = load_method(name), _recipes(name)
    title = re.split(r" \(|:", first_line(source))[0]
    yield f"# {title}"
    yield _linked(_escaped(head.replace("\n", " ")))
    yield markdown(body)
    yield "## In use"
    # The bundled model's first, which anybody can run.
    own = min(recipes, key=lambda recipe: (not recipe.endswith("-mini"), len(recipe), recipe))
    yield _fence(
        f"erase run --concept church --recipe {own}"
        if edits(name)
        else f"erase compare --recipes {own},uce --concepts church",
        "sh",
    )
    yield _needs(method.NEEDS, edits(name))
    rows = [(f"`{recipe}`", made_for(recipe), about) for recipe, about in recipes.items()]
    yield _table(("recipe", "model", ""), rows)
    yield "## Settings of its own"
    found = [f for f in flags_of(method.Config) if "reads" not in f.metadata]
    if found:
        yield "A recipe's value comes before the default; the flag comes before both."
        yield _table(("flag", "default", "meaning"), map(_setting, found))
    else:
        yield "None."
    yield "## Code"
    yield f"`erase/methods/{name}.py`, the whole method:"
    yield f"```{{literalinclude}} ../../erase/methods/{name}.py\n:language: python\n```"


def _recipes(method: str) -> dict[str, str]:
    """What is said of each recipe of a method."""
    names = [name for name in list_recipes() if load_recipe(name).method == method]
    return {name: recipe_about(name) for name in names}


def _needs(needs: Needs, makes: bool) -> str:
    """What a method asks for, in a sentence."""
    if not makes:
        return "It changes how images are sampled and no weights: only `erase compare` takes it."
    roles = " and ".join(
        f"{role} (where `--{needs.weighed[role]}` is not 0)" if role in needs.weighed else role
        for role in needs.images
    )
    parts = [f"It trains on {roles} images" if roles else "It needs no training images"]
    parts.append("trains in steps" if needs.loop else "is a closed form without steps")
    if needs.anchor:
        parts.append("needs an anchor")
    if needs.word:
        parts.append("looks for the concept's word in its prompts")
    if needs.scope:
        parts.append(f"moves the scope `{needs.scope}` and no other")
    parts.append("moves the denoiser" if needs.part == "denoiser" else "moves the text encoders")
    return f"{', '.join(parts[:-1])} and {parts[-1]}."


def _setting(flag: Flag) -> tuple[str, str, str]:
    default = flag.default
    shown = "–" if default is None else str(default).lower() if flag.type is bool else str(default)
    return f"`--{flag.name.replace('_', '-')}`", f"{shown}", _escaped(flag.help)


def command_pages() -> dict[str, str]:
    """Markdown by command, ``classifier-run`` for ``erase classifier run``."""
    return dict(_commands(build_parser(exporting=True), ()))


def _commands(parser: ArgumentParser, words: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for name, child in _children(parser).items():
        below = (*words, name)
        if _children(child):
            yield from _commands(child, below)
        else:
            yield "-".join(below), "\n\n".join(_command(child, " ".join(below))) + "\n"


def _children(parser: ArgumentParser) -> Mapping[str, ArgumentParser]:
    """The commands below one."""
    for action in parser._actions:
        if isinstance(action.choices, Mapping):
            return action.choices
    return {}


def _command(parser: ArgumentParser, name: str) -> Iterator[str]:
    yield f"# erase {name}"
    text = parser.description or ""
    yield _escaped(text[:1].upper() + text[1:].rstrip(".") + ("" if text.endswith("?") else "."))
    yield _fence(parser.usage or f"erase {name} [options]", "text")
    yield f"```{{program}} erase {name}\n```"
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help != SUPPRESS]
        if not actions:
            continue
        yield f"## {(group.title or '')[:1].upper()}{(group.title or '')[1:]}"
        whole = "classifier run" if name.startswith("classifier") else "run"
        if group.title == VALUES and name != whole:
            page = f"{whole.replace(' ', '-')}.md#recipe-values"
            yield f"Every value of a recipe is a flag, see [`erase {whole}`]({page})."
            continue
        if group.description:
            yield _escaped(f"{group.description[:1].upper()}{group.description[1:]}.")
        yield from map(_option, actions)


def _option(action: Action) -> str:
    value = "" if action.nargs == 0 else f" {_value(action)}"
    signs = ", ".join(f"{sign}{value}" for sign in action.option_strings) or _value(action)
    help = _escaped((action.help or "").replace("%%", "%"))
    return f"```{{option}} {signs}\n{help}\n```"


def _value(action: Action) -> str:
    """What stands for the value of a flag."""
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    named = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    return f"[{named}]" if action.nargs == "?" else named


def markdown(text: str) -> str:
    """A docstring's prose and equations as Markdown: what is indented stays as it is."""
    parts = []
    for block in re.split(r"\n\n+", text.strip("\n")):
        indented = [line.startswith("    ") for line in block.splitlines()]
        if all(indented):
            parts.append(_fence(textwrap.dedent(block), "text"))
        else:
            parts.append(_linked(_escaped(block)))
    return "\n\n".join(parts)


def _escaped(text: str) -> str:
    """Prose in which only ``code`` is markup."""
    parts = re.split(r"``(.+?)``", text)
    parts[::2] = (re.sub(r"([*_<\[\]|`])", r"\\\1", part) for part in parts[::2])
    parts[1::2] = (f"`{part}`" for part in parts[1::2])
    return "".join(parts)


def _linked(text: str) -> str:
    return ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def _fence(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
