"""Settings of a recipe as a dataclass states them: types, ranges, and their checks."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from erase.runtime.errors import UserError, clipped, nearest


def setting(default: Any, help: str, unit: str = "", **more: Any) -> Any:
    """A field with its documentation, its range and what reads it.

    Args:
        default: the value where a recipe has none.
        help: what it is.
        unit: of the number.
        more: further metadata, see ``Flag``.
    """
    return field(default=default, metadata={"help": help, "unit": unit, **more})


class Flag(NamedTuple):
    """One setting as the command line offers it.

    Attributes:
        name: the key in a recipe, and the flag after ``--``.
        type: of its value.
        default: where neither recipe nor flag gives one; None where there is none.
        metadata: ``help`` and ``unit``; ``min``, ``max`` (inclusive), ``above`` (exclusive),
            ``multiple``, ``choices``, ``optional``; ``stage``, the one that reads it or several;
            and without what it has no effect: ``loop``, a method that trains step by step,
            ``part``, one that moves it, ``role``, images that the method trains on, ``masks``, one
            of these, and ``needs``, another setting.
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
        """What the setting is, with unit and range."""
        details = "; ".join(text for text in (self.metadata.get("unit"), self.range) if text)
        return str(self.metadata["help"]) + (f" ({details})" if details else "")

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that read it."""
        stage = self.metadata.get("stage", ())
        return (stage,) if isinstance(stage, str) else tuple(stage)

    def parsed(self, text: str) -> object:
        """The value that a text stands for, or the text itself where it stands for none."""
        if self.type is bool:
            return {"true": True, "false": False}.get(text.lower(), text)
        try:
            return self.type(text)
        except ValueError:
            return text

    def checked(self, value: object) -> object:
        """The value in the flag's type.

        Raises:
            UserError: wrong type or out of range.
        """
        bounds = self.metadata
        if value is None and bounds.get("optional"):
            return None
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
        # Not isinstance: bool is a subclass of int, and steps = true is a mistake.
        fits = type(value) is self.type or (self.type is float and type(value) is int)
        if not fits or (isinstance(value, int | float) and not abs(value) <= sys.float_info.max):
            shown = clipped(repr(value))
            raise UserError(f"{self.name} is {shown}: it must be {words[self.type]}.")
        if "choices" in bounds and value not in bounds["choices"]:
            near = nearest(str(value), map(str, bounds["choices"]))
            raise UserError(
                f"{self.name} is {clipped(repr(value))}: it must be {self.range}.{near}"
            )
        if isinstance(value, int | float) and not _inside(value, bounds):
            raise UserError(f"{self.name} is {clipped(value)}: it must be {self.range}.")
        return self.type(value)


def flags_of(cls: type[Any]) -> list[Flag]:
    """The settings that a dataclass states."""
    hints = get_type_hints(cls)
    return [_flag(f, hints[f.name]) for f in fields(cls) if "help" in f.metadata]


def _flag(stated: Field[Any], hint: Any) -> Flag:
    metadata = dict(stated.metadata)
    if get_origin(hint) is Literal:
        metadata["choices"] = get_args(hint)
        hint = type(get_args(hint)[0])
    elif type(None) in get_args(hint):
        metadata["optional"] = True
        hint = next(h for h in get_args(hint) if h is not type(None))
    default = None if stated.default is MISSING else stated.default
    return Flag(stated.name, hint, default, MappingProxyType(metadata))


def _inside(value: float, bounds: Mapping[str, Any]) -> bool:
    return bool(
        value >= bounds.get("min", -math.inf)
        and value > bounds.get("above", -math.inf)
        and value <= bounds.get("max", math.inf)
        and ("multiple" not in bounds or value % bounds["multiple"] == 0)
    )
