"""The table of ``erase eval --images`` as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from erase.eval.folders.words import conclusion, counted
from erase.eval.pages import phrases, table
from erase.eval.pages.table import Cell
from erase.runtime.words import counted as count

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Column(table.Column):
    """A figure of the table.

    Attributes:
        of: reads ``(value, low, high)`` from a folder's figures; bounds may be None, and the
            whole where it was not measured.
    """

    of: Callable[[Figures], tuple[float, float | None, float | None] | None] = lambda figures: None


Value = tuple[float, float | None, float | None] | None


def _share(*path: str) -> Callable[[Figures], Value]:
    def read(figures: Figures) -> Value:
        found: Any = figures
        for key in path:
            found = found.get(key) if found else None
        if found is None or found["value"] is None:
            return None
        return found["value"], found.get("low"), found.get("high")

    return read


def _plain(*path: str) -> Callable[[Figures], Value]:
    def read(figures: Figures) -> Value:
        found: Any = figures
        for key in path:
            found = found.get(key) if found else None
        return None if found is None else (float(found), None, None)

    return read


COLUMNS = (
    Column("nudity_share", "nudity", "%", of=_share("nudity", "share")),
    Column("nudity_detections", "detections", of=_plain("nudity", "detections")),
    Column("nudity_change", "change", "points", of=_share("nudity_change")),
    Column("ua", "UA", "%", of=_share("classifier", "ua")),
    Column("ra", "RA", "%", of=_share("classifier", "ra")),
    Column("ira", "IRA", "%", of=_share("classifier", "ira")),
    Column("cra", "CRA", "%", of=_share("classifier", "cra")),
    Column("fid", "FID", of=_share("fidelity", "fid")),
    Column("kid", "KID", of=_share("fidelity", "kid")),
    Column("lpips", "LPIPS", of=_share("lpips")),
    Column("clip_score", "CLIP score", of=_plain("clip_score", "value")),
)


def columns(result: Mapping[str, Any]) -> list[Column]:
    """Those that a folder has a figure for, a distance under the name of its network."""
    return [
        replace(c, title=_title(c, result))
        for c in COLUMNS
        if any(c.of(f) is not None for f in result["folders"])
    ]


def _title(column: Column, result: Mapping[str, Any]) -> str:
    if column.key == "nudity_share":
        return counted(result)
    if column.key == "lpips":
        return str(result["metrics"]["lpips"]["name"])
    if column.key not in ("fid", "kid"):
        return column.title
    measured = (f["fidelity"][column.key] for f in result["folders"] if f.get("fidelity"))
    return next((str(d["name"]) for d in measured if d), column.title)


def cell(column: Column, figures: Figures) -> Cell:
    """A figure and its interval as the tables print them."""
    found = column.of(figures)
    if found is None:
        return Cell(phrases.DASH)
    value, low, high = found
    if column.key == "lpips":
        return Cell(f"{value:.3g}", count(figures["lpips"]["n"], "pair"))
    if not column.unit:
        return Cell(f"{value:.0f}" if column.key == "nudity_detections" else f"{value:.3g}")
    show = phrases.points if column.key == "nudity_change" else phrases.number
    if low is None or high is None:
        return Cell(show(value))
    if column.key == "nudity_change":
        pairs = figures["nudity_change"]["n"]
        return Cell(show(value), f"{show(low)} to {show(high)}, {pairs} pairs")
    return Cell(show(value), f"{show(low)}{phrases.DASH}{show(high)}")


NAMES = (table.Column("folder", "folder"), table.Column("n", "n"))


def rows(result: Mapping[str, Any], shown: Sequence[Column]) -> list[table.Row]:
    """A row for each folder, the base side's set apart."""
    return [
        {
            "folder": figures["name"],
            "n": figures["n"],
            **{column.key: cell(column, figures) for column in shown},
            "css": "base" if figures["name"] == result["base"] else "",
        }
        for figures in result["folders"]
    ]


def markdown(result: Mapping[str, Any]) -> str:
    """The conclusion, one line per folder, and what the scan says of each below."""
    shown = columns(result)
    lines = [*(f"- {sentence}" for sentence in conclusion(result)), ""]
    lines.append(table.markdown([*NAMES, *shown], rows(result, shown)))
    lines += [f"- {f['name']}: {f['scan']['words']}" for f in result["folders"]]
    lines += [f"- {note}" for note in result["notes"]]
    return "\n".join(lines) + "\n"


def csv(result: Mapping[str, Any]) -> str:
    """Every figure with its bounds, fractions as they are."""
    shown = columns(result)
    parts = ("", "_low", "_high")
    lines = []
    for figures in result["folders"]:
        line = {"folder": figures["name"], "n": figures["n"]}
        for column in shown:
            values = column.of(figures) or (None, None, None)
            line |= {f"{column.key}{p}": v for p, v in zip(parts, values, strict=True)}
        lines.append(line)
    return table.csv(["folder", "n", *(f"{c.key}{p}" for c in shown for p in parts)], lines)
