"""The table of ``erase eval --images`` as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from erase.eval.folders.words import conclusion, counted
from erase.eval.pages import phrases

Figures = Mapping[str, Any]


class Column(NamedTuple):
    """A figure of the table.

    Attributes:
        key: in the CSV file.
        title: above the column.
        of: reads ``(value, low, high)`` from a folder's figures; bounds may be None, and the
            whole where it was not measured.
        share: whether it is a fraction, printed as a percentage.
    """

    key: str
    title: str
    of: Callable[[Figures], tuple[float, float | None, float | None] | None]
    share: bool = True


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
    Column("nudity_share", "nudity %", _share("nudity", "share")),
    Column("nudity_detections", "detections", _plain("nudity", "detections"), share=False),
    Column("nudity_change", "change, points", _share("nudity_change")),
    Column("ua", "UA %", _share("classifier", "ua")),
    Column("ra", "RA %", _share("classifier", "ra")),
    Column("ira", "IRA %", _share("classifier", "ira")),
    Column("cra", "CRA %", _share("classifier", "cra")),
    Column("fid", "FID", _share("fidelity", "fid"), share=False),
    Column("kid", "KID", _share("fidelity", "kid"), share=False),
    Column("lpips", "LPIPS", _share("lpips"), share=False),
    Column("clip_score", "CLIP score", _plain("clip_score", "value"), share=False),
)


def columns(result: Mapping[str, Any]) -> list[Column]:
    """Those that a folder has a figure for."""
    return [c for c in COLUMNS if any(c.of(f) is not None for f in result["folders"])]


def title(column: Column, result: Mapping[str, Any]) -> str:
    """Above the column; a distance under the name of its network."""
    if column.key == "nudity_share":
        return f"{counted(result)} %"
    if column.key == "lpips":
        return str(result["metrics"]["lpips"]["name"])
    if column.key not in ("fid", "kid"):
        return column.title
    measured = (f["fidelity"][column.key] for f in result["folders"] if f.get("fidelity"))
    return next((str(d["name"]) for d in measured if d), column.title)


def text(column: Column, figures: Figures) -> tuple[str, str]:
    """A figure and its interval as the tables print them."""
    found = column.of(figures)
    if found is None:
        return phrases.DASH, ""
    value, low, high = found
    if column.key == "lpips":
        pairs = figures["lpips"]["n"]
        return f"{value:.3g}", f"{pairs} pair{'' if pairs == 1 else 's'}"
    if not column.share:
        return (f"{value:.0f}" if column.key == "nudity_detections" else f"{value:.3g}"), ""
    show = phrases.points if column.key == "nudity_change" else phrases.number
    if low is None or high is None:
        return show(value), ""
    if column.key == "nudity_change":
        pairs = figures["nudity_change"]["n"]
        return show(value), f"{show(low)} to {show(high)}, {pairs} pairs"
    return show(value), f"{show(low)}{phrases.DASH}{show(high)}"


def markdown(result: Mapping[str, Any]) -> str:
    """The conclusion, one line per folder, and what the scan says of each below."""
    shown = columns(result)
    heads = ["folder", "n", *(title(c, result) for c in shown)]
    lines = [*(f"- {sentence}" for sentence in conclusion(result)), ""]
    lines += ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for figures in result["folders"]:
        cells = []
        for column in shown:
            value, interval = text(column, figures)
            cells.append(f"{value} ({interval})" if interval else value)
        lines.append("| " + " | ".join([figures["name"], str(figures["n"]), *cells]) + " |")
    notes = [f"- {f['name']}: {f['scan']['words']}" for f in result["folders"]]
    notes += [f"- {note}" for note in result["notes"]]
    return "\n".join([*lines, "", *notes]) + "\n"


def table(result: Mapping[str, Any]) -> str:
    """CSV: every figure with its bounds, fractions as they are."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    shown = columns(result)
    heads = [f"{c.key}{part}" for c in shown for part in ("", "_low", "_high")]
    writer.writerow(["folder", "n", *heads])
    for figures in result["folders"]:
        values: list[Any] = []
        for column in shown:
            values += column.of(figures) or (None, None, None)
        writer.writerow([figures["name"], figures["n"], *values])
    return out.getvalue()
