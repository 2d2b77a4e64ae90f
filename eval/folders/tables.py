"""The table of ``erase eval --images`` as Markdown and CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from erase.eval.figure import cell, column_of
from erase.eval.folders.words import conclusion
from erase.eval.pages import table
from erase.eval.pages.phrases import DASH
from erase.eval.pages.table import Cell, Column


def columns(result: Mapping[str, Any]) -> list[Column]:
    """Those that a folder has a figure for, in the order of the metrics."""
    found: dict[str, Column] = {}
    every = [row for folder in result["folders"] for row in folder["figures"]]
    for row in sorted(every, key=lambda row: list(result["metrics"]).index(row["metric"])):
        if row["value"] is not None:
            found.setdefault(row["key"], replace(column_of(row), better=None))
    return list(found.values())


def _by_key(folder: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {row["key"]: row for row in folder["figures"] if row["value"] is not None}


NAMES = (table.Column("folder", "folder"), table.Column("n", "images"))


def rows(result: Mapping[str, Any], shown: Sequence[Column]) -> list[table.Row]:
    """A row for each folder, the base side's set apart."""
    return [
        {
            "folder": figures["name"],
            "n": figures["n"],
            **{c.key: cell(own[c.key]) if c.key in own else Cell(DASH) for c in shown},
            "css": "base" if figures["name"] == result["base"] else "",
        }
        for figures in result["folders"]
        for own in [_by_key(figures)]
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
    parts = {"": "value", "_n": "n", "_low": "low", "_high": "high"}
    lines = []
    for folder in result["folders"]:
        line = {"folder": folder["name"], "n": folder["n"]}
        for key, row in _by_key(folder).items():
            line |= {f"{key}{end}": row[name] for end, name in parts.items()}
        lines.append(line)
    return table.csv(["folder", "n", *(f"{c.key}{p}" for c in shown for p in parts)], lines)
