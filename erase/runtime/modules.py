"""Modules that are found by lying in a package: methods, metrics, families, formats."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType


def names(folder: Path) -> list[str]:
    """The modules of a package's folder, sorted, but for private ones; nothing is imported."""
    return sorted(file.stem for file in folder.glob("[!_]*.py"))


@cache
def modules(package: str) -> tuple[ModuleType, ...]:
    """The modules of a package, in the order of their names.

    A lower floor may name a package of a higher one, whose modules then plug into it.
    """
    [folder] = import_module(package).__path__
    return tuple(import_module(f"{package}.{name}") for name in names(Path(folder)))
