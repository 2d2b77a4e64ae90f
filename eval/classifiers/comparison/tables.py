"""The comparison as Markdown, CSV and one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from markupsafe import Markup

from erase.eval.classifiers import plots
from erase.eval.classifiers.comparison.compare import SEED, note
from erase.eval.classifiers.gap import FOUR
from erase.eval.classifiers.metrics import compared
from erase.eval.classifiers.report.tables import points
from erase.eval.classifiers.report.words import asked
from erase.eval.figure import text
from erase.eval.pages import phrases, table
from erase.eval.pages.html import template
from erase.eval.pages.table import Cell, Column, Row
from erase.eval.stats.repeated import too_few
from erase.runtime.words import counted

FIGURES = (
    *(Column(key, key.upper(), "%") for key in FOUR),
    *(replace(column, better=None) for column in compared()),
)
"""Of a model, each with its distance from Retrain's."""
COLUMNS = (
    Column("name", "recipe"),
    *FIGURES,
    Column("mean_gap", "gap, points", better="down"),
    Column("more", "gap minus the first’s, points", better="down"),
    Column("gap", "gap of means, points", better="down"),
    Column("cost", "samples, share of Retrain’s", "%", "down"),
)
CSV = (
    "forget",
    "recipe",
    "figure",
    "value",
    "n",
    "low",
    "high",
)
PARTS = {"forget": "to forget", "retain": "retained", "test": "test"}
Result = Mapping[str, Sequence[Mapping[str, Any]]]
"""By what is forgotten, the lines; see ``compare.compare``."""


def columns(result: Result) -> list[Column]:
    """Those that a result fills: one recipe has none to be compared with, and not every forget set
    has what a metric asks for."""
    every = [line for lines in result.values() for line in lines]
    empty = {
        column.key
        for column in compared()
        if all(line["others"][column.key]["value"] is None for line in every)
    }
    if not any(line["more"] for line in every):
        empty.add("more")
    return [column for column in COLUMNS if column.key not in empty]


def rows(lines: Sequence[Mapping[str, Any]]) -> list[Row]:
    """A row of ``COLUMNS`` for each line."""
    found: list[Row] = []
    for line in lines:
        end = line["name"] in ("untouched", "Retrain")
        notes = ["barely forgotten"] if line["barely"] else []
        if not end and line["seeds"] != lines[0]["seeds"]:
            notes.append(counted(line["seeds"], "seed"))
        row: dict[str, Any] = {"name": Cell(line["name"], ", ".join(notes))}
        values = {**line["four"], **line["others"]}
        for column in FIGURES:
            far = None if end else line["distances"][column.key]
            row[column.key] = _figure(column, values[column.key]["value"], far)
        row["mean_gap"] = points(_once(line["mean_gap"], lines))
        more = line["more"]
        row["more"] = points(_once(more, lines), sign=True) if more else Cell(phrases.DASH)
        row["gap"] = Cell(phrases.DASH if line["gap"] is None else f"{100 * line['gap']:.1f}")
        row["cost"] = Cell(phrases.DASH if line["cost"] is None else f"{100 * line['cost']:.1f}")
        found.append({**row, "css": "base"} if end else row)
    return found


def _once(found: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """A figure without the reason that ``note`` gives for all lines."""
    known = found["reason"] == too_few(lines[0]["seeds"], SEED) and found["value"] is not None
    return {**found, "reason": None} if known else found


def _figure(column: Column, value: float | None, far: float | None) -> Cell:
    """A value, and how far it is from Retrain's where that is told in points."""
    kind = {"unit": column.unit, "digits": column.digits}
    away = phrases.points(far) if far is not None and column.unit == "%" else ""
    return Cell(phrases.DASH if value is None else text(kind, value), away)


def markdown(result: Result) -> str:
    """A table for each forget set."""
    parts = []
    for forget, lines in result.items():
        parts += [f"Forget {forget}:", table.markdown(columns(result), rows(lines)), note(lines)]
    return "\n\n".join(parts) + "\n"


def csv(result: Result) -> str:
    """A line for each figure."""
    found: list[Row] = []
    for forget, lines in result.items():
        for line in lines:
            own = {**line["four"], **line["others"], "mean_gap": line["mean_gap"]}
            if line["more"]:
                own["more"] = line["more"]
            found += [
                {"forget": forget, "recipe": line["name"], "figure": key}
                | {end: value[end] for end in ("value", "n", "low", "high")}
                for key, value in own.items()
            ]
            plain = {"gap": line["gap"], "cost": line["cost"]}
            found += [
                {"forget": forget, "recipe": line["name"], "figure": key, "value": value}
                for key, value in plain.items()
            ]
    return table.csv(CSV, found)


def page(
    result: Result, cells: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], command: str
) -> str:
    """``compare.html``.

    Args:
        result: of ``compare``.
        cells: what it was made of.
        facts: what all cells have alike, by name.
        command: as it was typed.
    """
    sections = [
        {
            "title": asked(next(c["forgotten"] for c in cells if c["forget"] == forget)),
            "forget": forget,
            "rows": rows(lines),
            "note": note(lines),
            "plot": Markup(_plot(lines, number)),
            "spreads": Markup(_spreads([c for c in cells if c["forget"] == forget], number)),
        }
        for number, (forget, lines) in enumerate(result.items())
    ]
    html: str = template("classifiers.html.j2").render(
        title=f"{len({c['recipe'] for c in cells})} ways to unlearn, beside retraining",
        sections=sections,
        columns=columns(result),
        facts=facts,
        command=command,
    )
    return html


def _plot(lines: Sequence[Mapping[str, Any]], number: int) -> str:
    """The gap of every recipe, with the floor."""
    shown = [line for line in lines if line["name"] != "Retrain"]
    floor = lines[-1]["mean_gap"]
    return plots.bars(
        [line["name"] for line in shown],
        {"unlearned": [line["mean_gap"] for line in shown]},
        [floor] * len(shown),
        name=f"gaps-{number}",
        unit="distance from a retrained model, points",
    )


def _spreads(cells: Sequence[Mapping[str, Any]], number: int) -> str:
    """The confidences of every recipe, over all its seeds, beside Retrain's; "" without one."""
    if not any(cell["summary"]["retrain"]["ua"]["value"] is not None for cell in cells):
        return ""
    recipes = dict.fromkeys(cell["recipe"] for cell in cells)
    first = next(iter(recipes))
    found = {"untouched": _added(cells, first, "base")}
    found |= {name: _added(cells, name, "unlearned") for name in recipes}
    return plots.spreads(found, _added(cells, first, "retrain"), PARTS, f"confidence-{number}")


def _added(cells: Sequence[Mapping[str, Any]], recipe: str, side: str) -> dict[str, dict[str, Any]]:
    """The counts of a side over a recipe's seeds, by part."""
    own = [cell["confidence"].get(side, {}) for cell in cells if cell["recipe"] == recipe]
    return {
        part: {
            "n": sum(one[part]["n"] for one in own),
            "counts": [
                sum(bins) for bins in zip(*(one[part]["counts"] for one in own), strict=True)
            ],
        }
        for part in PARTS
        if all(part in one for one in own)
    }
