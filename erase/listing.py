"""Names of what was dropped into a folder, found without importing it."""

from __future__ import annotations

from importlib.resources import files


def list_metrics() -> list[str]:
    """The metrics: one module each in ``erase.eval.metrics``."""
    folder = files("erase.eval.metrics")
    names = [entry.name for entry in folder.iterdir()]
    return sorted(n.removesuffix(".py") for n in names if n.endswith(".py") and n[0] != "_")
