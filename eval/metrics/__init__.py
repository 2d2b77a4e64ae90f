"""Metrics, one module each, found by name.

A module ``erase.eval.metrics.NAME`` offers ``build(setting) -> Metric``. What a metric can't
measure in that setting it says in its figures, as a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, TypeVar

from erase.eval.instruments.setting import Setting
from erase.eval.pictures import Picture
from erase.runtime.errors import UserError, nearest

Row = TypeVar("Row")
FiguresT = TypeVar("FiguresT", covariant=True)


class Metric(Protocol[Row, FiguresT]):
    """Looks at every image once, then scores what it saw as often as wanted.

    Attributes:
        facts: what the figures depend on, as JSON; printed in the report's provenance.
    """

    @property
    def facts(self) -> dict[str, Any]: ...

    def measure(self, images: Sequence[Picture]) -> list[Row]:
        """One row per image, in order; taken from the store where it was measured before."""
        ...

    def score(self, rows: Sequence[Row], against: Sequence[Row] | None = None) -> FiguresT:
        """Figures of the rows, pure. ``against`` holds the rows of the side compared with."""
        ...


def build_metric(name: str, setting: Setting) -> Metric[Any, Any]:
    """Opens a metric by the name of its module.

    Raises:
        UserError: no such metric, or one that can't be opened in this setting.
    """
    if name not in list_metrics():
        raise UserError(
            f"There is no metric '{name}': choose from {', '.join(list_metrics())}."
            f"{nearest(name, list_metrics())}"
        )
    metric: Metric[Any, Any] = import_module(f"{__name__}.{name}").build(setting)
    return metric


def list_metrics() -> list[str]:
    """The metrics: one module each in ``erase.eval.metrics``."""
    names = [entry.name for entry in _metrics().iterdir()]
    return sorted(n.removesuffix(".py") for n in names if n.endswith(".py") and n[0] != "_")


def _metrics() -> Path:
    # By way of the package above, whose import is light.
    return Path(str(files("erase.eval"))) / "metrics"
