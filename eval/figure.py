"""One number of a report, with all that pages and tables need to print it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from erase.eval.pages import phrases
from erase.eval.pages.table import Better, Cell, Column


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
    return phrases.distance(value) if row["digits"] is None else f"{value:.{row['digits']}f}"


def cell(row: Mapping[str, Any], sign: bool = False) -> Cell:
    """A figure (as JSON) with its interval, its note or the reason why there is none."""
    if row["value"] is None:
        return Cell(phrases.DASH, row["reason"] or "")
    shown = text(row, row["value"], sign)
    if row["note"] or row["low"] is None or row["high"] is None:
        return Cell(shown, row["note"])
    if row["unit"] == "%" and sign:
        return Cell(shown, phrases.interval(row))
    between = " to " if row["unit"] == "points" else phrases.DASH
    ends = (text(row, row[end]) for end in ("low", "high"))
    if row["unit"]:
        return Cell(shown, between.join(ends))
    return Cell(shown, phrases.span(*ends))
