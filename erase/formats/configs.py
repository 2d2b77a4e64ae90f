"""Configurations of a model: read, and refused where they ask for code of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from erase.formats.layouts import INDEX, layouts
from erase.formats.tensors import refuse_pointer
from erase.runtime.errors import UserError, reason

_CODE = ("auto_map", "trust_remote_code", "custom_pipelines")
"""Entries of configurations by which libraries look for Python in a model's folder."""
_KERNELS = ("attn_implementation", "attn_implementation_internal", "experts_implementation")
"""Those by which they may fetch some, but for what they bring themselves."""
_OWN = ("eager", "sdpa")


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a model.

    Raises:
        UserError: it can't be read, or is none.
    """
    try:
        refuse_pointer(file)
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{file} can't be read ({reason(error)}): download the model again."
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"{file} does not hold a JSON object: download the model again.")
    return found


def indices() -> tuple[str, ...]:
    """Every file by which a folder may be known, diffusers' own first."""
    return tuple(dict.fromkeys((INDEX, *(layout.index for layout in layouts().values()))))


def refuse_code(place: Path) -> None:
    """Refuses a folder that brings Python, or whose configurations ask for some.

    Raises:
        UserError: it does, or a configuration can't be read.
    """
    for file in place.iterdir():
        if file.suffix.lower() == ".py":
            raise UserError(
                f"{file} is Python code, which libraries may run when they open the model: "
                "remove it, or give a model without any."
            )
        told = file.name.endswith("config.json") or file.name in indices()
        if told and not file.name.startswith("."):
            refuse_request(read_json(file), str(file))


def refuse_request(config: object, source: str) -> None:
    """Refuses a configuration by which a library would look for Python of its own.

    Raises:
        UserError: it is one; ``source`` says whose.
    """
    asked = next((key for key, told in _entries(config) if _asks(key, told)), None)
    if asked is not None:
        raise UserError(
            f"{source} asks for code of its own ('{asked}'), which is never run: remove the entry, "
            "or give a model without it."
        )


def _asks(key: str, told: object) -> bool:
    return key in _CODE or (key.strip("_") in _KERNELS and not set(_texts(told)) <= {*_OWN})


def _texts(value: object) -> Iterator[str]:
    """Every text in a value, at any depth."""
    if isinstance(value, str):
        yield value
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _entries(value: object) -> Iterator[tuple[str, object]]:
    """Every key and its value, at any depth."""
    if isinstance(value, dict):
        yield from value.items()
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _entries(inner)
