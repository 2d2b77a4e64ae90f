"""Modules that are found by lying in a package: families, formats."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


@cache
def modules(package: str) -> tuple[ModuleType, ...]:
    """The modules of a package, in the order of their names.

    A lower floor may name a package of a higher one, whose modules then plug into it.
    """
    path = import_module(package).__path__
    return tuple(import_module(f"{package}.{m.name}") for m in iter_modules(path))
