"""A parser that says what is wrong in one sentence, and has help in two tiers."""

from __future__ import annotations

import re
from argparse import SUPPRESS, Action, HelpFormatter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from jsonargparse import ArgumentParser

from erase.runtime.errors import UserError, nearest

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}
"""Types of values, as messages call them."""

DEVICE: Mapping[str, Any] = {
    "choices": ("auto", "cpu", "cuda", "mps"),
    "default": "auto",
    "help": "device to compute on (default: auto, a GPU if there is one)",
}
DETERMINISTIC: Mapping[str, Any] = {
    "action": "store_true",
    "help": "same bits on every GPU run, but slower",
}
"""Flags of every command that computes."""
BUDGETS = ("quick", "full", "published")
BUDGET = (
    "how much each attack may spend; also sets the images per side: quick 20, full 60, published "
    "142 (default: quick)"
)
FLOOR = (
    "a model that never knew the concept, or none (default: the bundled never-CONCEPT where there "
    "is one, else none: the base, asked by a made-up name or for no class)"
)

STRENGTH: Mapping[str, Any] = {
    "type": float,
    "help": "how much of an edit (LoRA, LyCORIS file, delta) to apply: 0 is the base, 1 the whole "
    "edit (default: 1)",
}


class Parser(ArgumentParser):
    """Says what is wrong in one sentence instead of printing the usage of fifty flags.

    Attributes:
        more: flags that ``--help-all`` shows and ``--help`` does not, by destination.
    """

    def __init__(self, text: str, usage: str, version: str | None = None) -> None:
        super().__init__(
            prog="erase",
            description=text,
            usage=usage,
            formatter_class=HelpFormatter,
            version=version,
            # A part of a flag may be that of another one tomorrow.
            allow_abbrev=False,
        )
        self.more: set[str] = set()

    @contextmanager
    def rare(self) -> Iterator[None]:
        """What is added meanwhile is for ``--help-all``."""
        before = {action.dest for action in self._actions}
        yield
        self.more |= {action.dest for action in self._actions} - before

    def tell_all(self) -> None:
        """Offers ``--help-all``."""
        self.add_argument("--help-all", action=HelpAll, help="show every flag and exit")

    def format_help(self, formatter: HelpFormatter | None = None) -> str:
        """The flags that are often wanted."""
        told = {a: a.help for a in self._actions if a.dest in self.more}
        for action in told:
            action.help = SUPPRESS
        try:
            # Older versions know no formatter, and never hand one in.
            return str(super().format_help(*([] if formatter is None else [formatter])))
        finally:
            for action, text in told.items():
                action.help = text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises what the parser found wrong, with the nearest flag."""
        text = " ".join(message.split()).removeprefix("error: ")
        text = re.sub(r"Parser key \"([\w.]+)\": ", r"--\1: ", text)
        text = re.sub(
            r"Expected a <class '(\w+)'>\. Got value: (.*)",
            lambda found: f"'{found[2]}' is not {KINDS.get(found[1], found[1])}",
            text,
        )
        unknown = re.search(r"unrecognized arguments: (--[\w-]+)", text, re.IGNORECASE)
        flags = [f for action in self._actions for f in action.option_strings]
        near = nearest(unknown[1], flags) if unknown else ""
        raise UserError(f"{text.rstrip('.')}.{near} See --help.")


def add_attacks(parser: ArgumentParser) -> None:
    """The flags of attacks on what a command makes."""
    add = parser.add_argument_group("attacks: does the concept come back?").add_argument
    add(
        "--attacks",
        type=str,
        action="append",
        help='comma-separated names from "erase list attacks", or "all" (default: none)',
    )
    add("--budget", choices=BUDGETS, help=BUDGET)
    add("--floor", type=str, help=f"{FLOOR}; {{concept}} stands for the concept's name")


class HelpAll(Action):
    """Prints the help of every flag."""

    def __init__(self, option_strings: Any, dest: Any = SUPPRESS, **kwargs: Any) -> None:
        super().__init__(option_strings, SUPPRESS, nargs=0, default=SUPPRESS, help=kwargs["help"])

    def __call__(self, parser: Any, *args: Any, **kwargs: Any) -> None:
        """Prints the help and exits."""
        parser.more.clear()
        parser.print_help()
        parser.exit()
