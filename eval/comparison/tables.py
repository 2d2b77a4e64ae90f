"""A comparison's table as Markdown, LaTeX and CSV, and all of its files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from erase.eval.comparison.compare import COLUMNS, COSTS, PAIRED, Column, columns
from erase.eval.pages.phrases import missing, span

TEX = {
    **{sign: f"\\{sign}" for sign in "%&#_${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
"""Signs that LaTeX reads as its own."""


def absent(row: Mapping[str, Any], column: Column) -> str:
    """What stands in place of a figure: there may be nothing to measure."""
    untrained = row["method"] in (None, "included") and column.key in COSTS
    unmoved = row["method"] is None and column.key == "lpips"
    return "–" if untrained or unmoved else "not measured"


def as_text(
    value: Mapping[str, Any] | None,
    column: Column,
    interval: bool = True,
    absent: str = "not measured",
) -> str:
    """A figure as the tables print it, with its interval where there is one."""
    if value is None:
        return absent

    text = _plain(value["value"], column)
    if interval and (shown := bracket(value, column)):
        text += f" ({shown})"
    return text


def bracket(value: Mapping[str, Any] | None, column: Column) -> str:
    """A figure's interval over the concepts; empty where it has none."""
    if value is None or value["groups"] < 2 or column.key not in PAIRED:
        return ""
    return span(*(_plain(value[end], column) for end in ("low", "high")))


def _plain(value: float, column: Column) -> str:
    return f"{value * column.scale:.{column.digits}f}"


def markdown(result: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    shown = columns(result)
    titles = ["recipe", *(c.title for c in shown), "concepts × seeds (cells)"]
    lines = ["| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
    for r in (result["base_row"], *result["rows"]):
        cells = [as_text(r["figures"][c.key], c, absent=absent(r, c)) for c in shown]
        size = f"{r['concepts']}"
        if r["method"]:
            size += f" × {len(r['seeds'])} ({r['cells']})"
        name = r["recipe"].replace("|", r"\|")
        lines.append("| " + " | ".join([name, *cells, size]) + " |")
    if result["unfinished"]:
        lines += ["", missing(result["unfinished"])]
    return "\n".join(lines) + "\n"


def tex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(TEX.get(sign, sign) for sign in text)


def latex(result: Mapping[str, Any]) -> str:
    """The table for a paper (booktabs); bold is the best of each column, as printed, among the rows
    with a cell for every concept and seed of the table."""
    shown = [c for c in columns(result) if c.better]
    titles = ["recipe", *(c.title for c in shown), "cells"]
    lines = [f"% {missing(result['unfinished'])}"] if result["unfinished"] else []
    lines += [
        r"\begin{tabular}{l" + "r" * (len(shown) + 1) + "}",
        r"\toprule",
        " & ".join(map(tex, titles)) + r" \\",
        r"\midrule",
    ]
    best = {}
    for c in shown:
        values = [
            f["value"] for r in result["rows"] if r["complete"] and (f := r["figures"][c.key])
        ]
        best[c.key] = _plain((max if c.better > 0 else min)(values), c) if values else None
    for r in result["rows"]:
        cells = []
        for c in shown:
            figure = r["figures"][c.key]
            text = _plain(figure["value"], c) if figure else "--"
            first = r["complete"] and text == best[c.key]
            cells.append(rf"\textbf{{{text}}}" if first else text)
        lines.append(" & ".join([tex(r["recipe"]), *cells, str(r["cells"])]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def table(result: Mapping[str, Any]) -> str:
    """One CSV line per cell: the raw figures behind the table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["recipe", "method", "concept", "anchor", "seed", *(c.key for c in COLUMNS)])
    for cell in result["cells"]:
        names = [cell[k] for k in ("recipe", "method", "concept", "anchor", "seed")]
        writer.writerow([*names, *(c.of(cell) for c in COLUMNS)])
    return out.getvalue()
