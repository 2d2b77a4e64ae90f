"""One number of a report, with all that pages and tables need to print it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from erase.eval.pages import phrases, table
from erase.eval.pages.table import Better, Column


class Estimate(Protocol):
    """A share, a mean or a difference."""

    @property
    def value(self) -> float | None: ...
    @property
    def n(self) -> int: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...


@dataclass(frozen=True)
class Figure:
    """A figure of one side.

    Attributes:
        key, title, unit, better, name, about, digits: of its column (``table.Column``); the title
            names the network where figures of several can't be compared.
        value: None where not measured; a fraction where the unit is ``%`` or ``points``.
        n: images, or pairs.
        low, high: 95 % interval; None without one.
        note: printed in place of the interval.
        detail: printed beside n.
        reason: why it was not measured.
        metric: the metric's name.
        side: ``base`` or ``erased``, or a folder.
        group: role of the prompts, for figures of one group; empty for those of all images that the
            metric looks at.
        against: the second set that went into it, see ``Metric``; None for none.
    """

    key: str
    title: str
    unit: str = ""
    better: Better | None = None
    name: str = ""
    about: str = ""
    digits: int | None = None
    value: float | None = None
    n: int = 0
    low: float | None = None
    high: float | None = None
    note: str = ""
    detail: str = ""
    reason: str | None = None
    metric: str = ""
    side: str = ""
    group: str = ""
    against: str | None = None


Cell = Mapping[str, Any]
"""The content of a ``cell.json``: what a comparison keeps of a run."""


@dataclass(frozen=True)
class CellColumn(Column):
    """A figure in the table of a comparison.

    Attributes:
        of: reads it from a cell; None where not measured.
        n: images of which the value is a share; None where it is none.
        scale: what a value without a unit is multiplied by when printed.
        titled: the title with the network that measured a cell's; None for the column's own.
        optional: measured only where asked for, so that a table without it doesn't name it.
        listed: it is among a metric's figures, and no column at all where no cell has it.
    """

    of: Callable[[Cell], float | None] = lambda cell: None
    n: Callable[[Cell], int] | None = None
    scale: float = 1.0
    titled: Callable[[Cell], str | None] = lambda cell: None
    optional: bool = False
    listed: bool = False

    def text(self, value: float) -> str:
        """A value as the tables print it."""
        text = f"{self.scaled(value):.{self.places}f}"
        return text.replace("-", phrases.MINUS) if float(text) else text.removeprefix("-")

    @property
    def places(self) -> int:
        """Digits behind the point."""
        return 1 if self.digits is None else self.digits

    def scaled(self, value: float) -> float:
        """A value in the unit of the column."""
        return value * (100 if self.unit == "%" else self.scale)


def from_list(column: Column) -> CellColumn:
    """The column of a figure that stands in the cells' list ``figures``."""

    def read(cell: Cell) -> Mapping[str, Any] | None:
        rows = (f for f in cell.get("figures", ()) if f["key"] == column.key and not f["group"])
        own = (f for f in rows if f["side"] == "erased" and f["value"] is not None)
        return next(own, None)

    def value(cell: Cell) -> float | None:
        return found["value"] if (found := read(cell)) else None

    def n(cell: Cell) -> int:
        return found["n"] if (found := read(cell)) else 0

    shared = {key: getattr(column, key) for key in Column.__dataclass_fields__}
    if column.digits is None and not column.unit:
        shared["digits"] = 3
    scale = 100.0 if column.unit == "points" else 1.0
    n_of = n if column.unit == "%" else None
    return CellColumn(**shared, of=value, n=n_of, scale=scale, listed=True)


def figure(column: Column, found: Estimate | None, **more: Any) -> Figure:
    """The figure of a column.

    Args:
        column: states what it is.
        found: the estimate; None where not measured.
        more: further fields, such as the reason.
    """
    fields: dict[str, Any] = {key: getattr(column, key) for key in Column.__dataclass_fields__}
    if found is not None:
        fields |= {key: getattr(found, key) for key in ("value", "n", "low", "high")}
        if getattr(found, "reason", None):
            fields["reason"] = found.reason  # type: ignore[attr-defined]
    return Figure(**{**fields, **more})


def column_of(row: Mapping[str, Any]) -> Column:
    """The column that a figure stands in, from the figure as JSON."""
    return Column(**{key: row[key] for key in Column.__dataclass_fields__})


def text(row: Mapping[str, Any], value: float, sign: bool = False) -> str:
    """A value of a figure (as JSON) as it is printed.

    Args:
        sign: whether a percentage has its sign; else it stands in the column's head.
    """
    if row["unit"] == "%":
        return phrases.percent(value) if sign else phrases.number(value)
    if row["unit"] == "points":
        return phrases.points(value)
    if row["digits"] is None:
        return phrases.distance(value)
    return f"{value:.{row['digits']}f}".replace("-", phrases.MINUS)


def cell(row: Mapping[str, Any], sign: bool = False) -> table.Cell:
    """A figure (as JSON) with its interval, its note or the reason why there is none."""
    if row["value"] is None:
        return table.Cell(phrases.DASH, row["reason"] or "")
    shown = text(row, row["value"], sign)
    if row["note"] or row["low"] is None or row["high"] is None:
        return table.Cell(shown, row["note"])
    if row["unit"] == "%" and sign:
        return table.Cell(shown, phrases.interval(row))
    between = " to " if row["unit"] == "points" else phrases.DASH
    ends = (text(row, row[end]) for end in ("low", "high"))
    if row["unit"]:
        return table.Cell(shown, between.join(ends))
    return table.Cell(shown, phrases.span(*ends))
