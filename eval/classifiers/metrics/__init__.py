"""Metrics of classifiers that forget, one module each, found by name.

A module ``erase.eval.classifiers.metrics.NAME`` is all that a metric needs: its figures then stand
in every report, table and comparison. It offers

    COLUMNS                                    the figures that it may give
    measure(case, side, references) -> list    those of one side, as ``eval.figure.Figure``

and, where the default does not fit,

    RANK                                       where its figures stand among those of other metrics
    COMPARED                                   the COLUMNS that comparisons show too
    PAIRED                                     keys of figures that are means over pairs of models,
                                               the same from either side, which intervals over
                                               the retrained models allow for
    BOUNDS                                     by key, the least and the most that a figure can be,
                                               to which intervals are cut; shares need none

``references`` are the retrained models; asked about one of these, the others. What can't be
measured is a figure without a value, with the reason. Its first line is what
``erase classifier list metrics`` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from erase.eval.classifiers.evidence import Case, Side
from erase.eval.figure import Figure
from erase.eval.pages.table import Column
from erase.runtime.modules import names

METRICS = Path(__file__).parent
LAST = 100
"""Rank of a metric that states none."""


def list_metrics() -> list[str]:
    """The metrics, in the order in which their figures are told."""
    return sorted(names(METRICS), key=lambda name: getattr(_module(name), "RANK", LAST))


def columns() -> list[Column]:
    """The figures that there may be, in order."""
    return [column for name in list_metrics() for column in _module(name).COLUMNS]


def compared() -> list[Column]:
    """The figures that stand in comparisons beside UA, RA, TA and MIA, in order."""
    return [c for name in list_metrics() for c in getattr(_module(name), "COMPARED", ())]


def bounds() -> dict[str, tuple[float, float]]:
    """The least and the most that a figure can be, by its key, where a metric says so."""
    shares = {column.key: (0.0, 1.0) for column in columns() if column.unit == "%"}
    own = [getattr(_module(name), "BOUNDS", {}) for name in list_metrics()]
    return {**shares, **{key: ends for found in own for key, ends in found.items()}}


def paired() -> frozenset[str]:
    """Keys of the figures that are means over pairs of models."""
    return frozenset(key for name in list_metrics() for key in getattr(_module(name), "PAIRED", ()))


def measure(
    case: Case, side: Side, references: Sequence[Side], keys: Sequence[str] = ()
) -> list[Figure]:
    """The figures of a side, in order.

    Args:
        case: what is asked of every model.
        side: whose figures they are.
        references: models that never saw what is forgotten, other than ``side``.
        keys: measure only what gives one of these; () for all.
    """
    found: list[Figure] = []
    for name in list_metrics():
        if keys and not set(keys) & {column.key for column in _module(name).COLUMNS}:
            continue
        found += _module(name).measure(case, side, references)
    return found


def _module(name: str) -> Any:
    return import_module(f"{__name__}.{name}")
