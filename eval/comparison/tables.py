"""A comparison's table as Markdown, LaTeX and CSV, and all of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from erase.eval.comparison.columns import COSTS, UNPAIRED, columns, columns_of, unmeasured
from erase.eval.comparison.lead import ENDS, FEW, few_told
from erase.eval.comparison.recovery import ABOUT, WORST, attacks_of
from erase.eval.comparison.told import warnings
from erase.eval.figure import CellColumn
from erase.eval.pages import table
from erase.eval.pages.phrases import DASH, MINUS, clear, missing, span
from erase.runtime.words import counted


def absent(row: Mapping[str, Any], column: CellColumn) -> str:
    """What stands in place of a figure: there may be nothing to measure."""
    untold = all(row["figures"].get(key) is None for key in COSTS)
    untrained = column.key in COSTS and untold
    unmoved = row["method"] is None and column.key == "lpips"
    return "–" if untrained or unmoved else "not measured"


def cell(
    value: Mapping[str, Any] | None, column: CellColumn, absent: str = "not measured"
) -> table.Cell:
    """A figure as the tables print it, with its interval over the concepts where it has one."""
    if value is None:
        return table.Cell(absent)
    if value["groups"] < 2 or column.key in UNPAIRED:
        return table.Cell(column.text(value["value"]))
    ends = span(*(column.text(value[end]) for end in ("low", "high")))
    return table.Cell(column.text(value["value"]), ends)


def figures(row: Mapping[str, Any], shown: Sequence[CellColumn]) -> dict[str, Any]:
    """A row's name and its figures as the tables print them; of some of its cells alone, with how
    many."""
    found = {}
    for column in shown:
        value = row["figures"].get(column.key)
        own = cell(value, column, absent(row, column))
        if value is not None and value["cells"] < row["cells"]:
            note = ", ".join(filter(None, (own.note, counted(value["cells"], "cell"))))
            own = replace(own, note=note)
        found[column.key] = own
    return {"recipe": row["recipe"], **found}


RECIPE = table.Column("recipe", "recipe")
AGAINST = table.Column("against", "against")


def markdown(result: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    shown = columns(result)
    rows = []
    for r in (result["base_row"], *result["rows"]):
        size = f"{r['concepts']}"
        if r["method"]:
            size += f" × {len(r['seeds'])} ({r['cells']})"
        rows.append({**figures(r, shown), "size": size})
    size_column = table.Column("size", "concepts × seeds (cells)")
    text = table.markdown([RECIPE, *shown, size_column], rows) + _under_attack(result)
    told = unmeasured(result) + few_told(result)
    told += [missing(result["unfinished"])] if result["unfinished"] else []
    return "\n".join([text, *(f"{line}\n" for line in (*told, *warnings(result["cells"])))])


def attack_table(result: Mapping[str, Any]) -> tuple[list[table.Column], list[table.Row]]:
    """Columns and rows of what attacks brought back; none where nothing was attacked."""
    shown = [WORST, *attacks_of(result["cells"])]
    rows: list[table.Row] = []
    for row in result.get("attacks", ()):
        name = table.Cell(row["recipe"], row["verdicts"])
        found = {c.key: cell(row["figures"].get(c.key), c, DASH) for c in shown}
        rows.append({"recipe": name, **found})
    return [RECIPE, *shown], rows


def attack_differences(result: Mapping[str, Any]) -> tuple[list[table.Column], list[table.Row]]:
    """Columns and rows of how the first recipe differs from each other under attack; none where
    two were not attacked."""
    shown = attacks_of(result["cells"])
    held = {**result, "paired": [p for p in result["paired"] if any(p.get(c.key) for c in shown)]}
    return [AGAINST, *shown], [*differences(held, shown)]


def differences(result: Mapping[str, Any], shown: Sequence[CellColumn]) -> list[dict[str, Any]]:
    """The differences of the first recipe to every other."""
    found = []
    for pair in result["paired"]:
        # Under attack there may be fewer than the two have in common.
        own = [value["cells"] for c in shown if (value := pair.get(c.key))]
        most = max(own, default=pair["cells"])
        row: dict[str, Any] = {"against": table.Cell(pair["second"], counted(most, "cell"))}
        for column in shown:
            value = pair.get(column.key)
            if value is None:
                row[column.key] = table.Cell(DASH)
                continue
            text, low, high = (
                _signed(column.scaled(value[k]), column.places) for k in ("value", *ENDS)
            )
            fewer = counted(value["cells"], "cell") if value["cells"] < most else ""
            ends = span(low, high, " to ") if value["groups"] > 1 else ""
            note = ", ".join(filter(None, (ends, fewer)))
            better = (value["value"] > 0) is (column.better == "up")
            tone = "better" if better else "worse"
            told = column.better and clear(value, FEW)
            row[column.key] = table.Cell(text, note, tone if told else "")
        found.append(row)
    return found


def _signed(value: float, digits: int) -> str:
    """With its sign, but for what prints as nought."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text[1:]


def _under_attack(result: Mapping[str, Any]) -> str:
    columns, rows = attack_table(result)
    if not rows:
        return ""
    text = f"\n{table.markdown(columns, rows)}\n{ABOUT}\n"
    columns, rows = attack_differences(result)
    if not rows:
        return text
    first = result["rows"][0]["recipe"]
    return f"{text}\n{first} minus the other, in points:\n\n{table.markdown(columns, rows)}\n"


def latex(result: Mapping[str, Any]) -> str:
    """The table for a paper (booktabs); bold is the best of each column, as printed, among the rows
    with a cell for every concept and seed of the table."""
    shown = [c for c in columns(result) if c.better]
    best = {c.key: _best(result["rows"], c) for c in shown}
    rows = []
    for r in result["rows"]:
        row: dict[str, Any] = {"recipe": r["recipe"], "cells": r["cells"]}
        for c in shown:
            found = cell(r["figures"].get(c.key), c, DASH)
            first = _whole(r, c) and found.text == best[c.key]
            figure = r["figures"].get(c.key)
            if figure and figure["cells"] < r["cells"]:
                found = replace(found, text=f"{found.text} [{figure['cells']}]")
            row[c.key] = replace(found, tone="best") if first else found
        rows.append(row)
    head = f"% {missing(result['unfinished'])}\n" if result["unfinished"] else ""
    if any(f and f["cells"] < r["cells"] for r in result["rows"] for f in r["figures"].values()):
        head += "% In brackets, of how many of the row's cells a figure is.\n"
    return head + table.latex([RECIPE, *shown, table.Column("cells", "cells")], rows)


def _whole(row: Mapping[str, Any], column: CellColumn) -> bool:
    """Whether a row has a cell for every place of the table, and the figure in each."""
    figure = row["figures"].get(column.key)
    return bool(row["complete"] and figure and figure["cells"] == row["cells"])


def _best(rows: Sequence[Mapping[str, Any]], column: CellColumn) -> str | None:
    """The best figure of the column as it is printed; None for no complete row."""
    values = [r["figures"][column.key]["value"] for r in rows if _whole(r, column)]
    return column.text((max if column.better == "up" else min)(values)) if values else None


def csv(result: Mapping[str, Any]) -> str:
    """One CSV line per cell: the raw figures behind the table."""
    names = ("recipe", "method", "concept", "anchor", "seed")
    columns = columns_of(result["cells"])
    rows = [
        {**{k: c[k] for k in names}, **{column.key: column.of(c) for column in columns}}
        for c in result["cells"]
    ]
    return table.csv([*names, *(c.key for c in columns)], rows)
