"""The figures of a comparison: those of the metrics, their mean, and what making a model took."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from erase.eval.comparison.recovery import WORST
from erase.eval.figure import Cell, CellColumn, column_of, from_list
from erase.eval.metrics import columns as stated
from erase.eval.metrics import compared, ranked

AVERAGED = ("ua", "ira", "cra")
"""Figures that the harmonic mean is of."""


def harmonic(cell: Cell) -> float | None:
    """Harmonic mean of those of UA, IRA and CRA that were measured; 0 where one is 0."""
    own = {column.key: column for name in ranked() for column in compared(name)}
    values = [v for key in AVERAGED if (v := own[key].of(cell)) is not None]
    if not values:
        return None
    return 0.0 if min(values) == 0 else len(values) / sum(1 / v for v in values)


HARMONIC = CellColumn("harmonic", "harmonic", "%", "up", of=harmonic)


def _whole(of: str, images: str) -> Callable[[Cell], float | None]:
    """A cost with that of the images to train on; None where one of them is not known."""

    def read(cell: Cell) -> float | None:
        own, made = cell.get(of), cell.get(images)
        return None if own is None or made is None else float(own) + float(made)

    return read


def _cost(key: str, title: str, of: Callable[[Cell], float | None]) -> CellColumn:
    return CellColumn(key, title, better="down", digits=0, of=of)


MAKING = (
    _cost("seconds", "seconds", lambda c: c["training_seconds"]),
    _cost("all_seconds", "seconds with images", _whole("training_seconds", "image_seconds")),
    _cost("forwards", "forwards", lambda c: c.get("forwards")),
    _cost("all_forwards", "forwards with images", _whole("forwards", "image_forwards")),
    _cost("memory", "peak MiB", lambda c: c["training_memory_mb"]),
    CellColumn("moved", "weights moved", "%", of=lambda c: c["moved"] / c["weights"]),
    CellColumn("bytes", "MB to store", "", "down", digits=1, of=lambda c: c["bytes"], scale=1e-6),
)
"""Figures of the model rather than of its images."""
MADE = frozenset(column.key for column in MAKING)
"""Their keys."""


COSTS = ("seconds", "all_seconds", "forwards", "all_forwards", "memory")
"""Figures of the making, which a model that others made has none of."""


UNPAIRED = frozenset({"clip", *MADE})
"""Figures that recipes are not compared on, cell by cell."""


def columns_of(cells: Sequence[Cell]) -> list[CellColumn]:
    """Every column of the table: those that metrics state for comparisons, and what else the cells'
    metrics measured."""
    found: dict[str, CellColumn] = {}
    told: set[str] = set()
    for name in ranked():
        if own := compared(name):
            found |= {c.key: c for c in own if not c.listed or _had(c, cells)}
            told |= {column.key for column in stated(name)}
    found = {key: found.pop(key) for key in AVERAGED} | {HARMONIC.key: HARMONIC} | found
    told |= found.keys()
    if any(cell.get("recovery") for cell in cells):
        found[WORST.key] = WORST
    for cell in cells:
        for row in cell.get("figures", ()):
            if row["key"] not in told and not row["group"] and row["value"] is not None:
                found[row["key"]] = from_list(column_of(row))
                told.add(row["key"])
    return [*found.values(), *MAKING]


def _had(column: CellColumn, cells: Sequence[Cell]) -> bool:
    return any(column.of(cell) is not None for cell in cells)


def columns(result: Mapping[str, Any]) -> list[CellColumn]:
    """Those of the table, under the names of the networks that measured."""
    cells = result["cells"]
    found = []
    for column in columns_of(cells):
        if column.key not in MADE and not _had(column, cells):
            continue
        titles = {title for cell in cells if (title := column.titled(cell))}
        found.append(replace(column, title=min(titles)) if len(titles) == 1 else column)
    return found


def unmeasured(result: Mapping[str, Any]) -> list[str]:
    """A sentence with the figures that no cell has, which the tables leave out; [] for none."""
    cells = result["cells"]
    names = [
        column.title
        for column in columns_of(cells)
        if column.key not in MADE and not column.optional and not _had(column, cells)
    ]
    return [f"Not measured in any cell: {'; '.join(names)}."] if names else []
