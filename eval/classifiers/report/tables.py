"""A classifier's report as rows: for its page and for comparisons, Markdown, CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from erase.eval.classifiers.gap import FOUR
from erase.eval.figure import cell
from erase.eval.pages import phrases, table
from erase.eval.pages.html import setting_text
from erase.eval.pages.table import Cell, Column, Row
from erase.runtime.words import counted

Report = Mapping[str, Any]
SIDES = ("base", "unlearned", "retrain")
TITLES = {"base": "untouched", "unlearned": "unlearned", "retrain": "Retrain"}
MEAN_GAP = Column("mean_gap", "gap", "points", "down")
GAP = Column("gap", "gap of means", "points", "down")
GAPS = (
    Column("model", "minus Retrain, points"),
    *(Column(f"d_{key}", key.upper()) for key in FOUR),
    replace(MEAN_GAP, unit=""),
    replace(GAP, unit=""),
)
"""A row for each model: its four distances from Retrain, and their averages."""
CSV = ("side", "figure", "group", "unit", "n", "value", "low", "high", "note", "reason")


def gap_row(name: str, summary: Mapping[str, Any], prefix: str = "", note: str = "") -> Row:
    """A model's distances from Retrain, in points, a row of ``GAPS``.

    Args:
        name: of the model.
        summary: of its report.
        prefix: ``base_`` for the untouched model.
        note: below the name.
    """
    signed = summary[f"{prefix}distances"]
    return {
        "model": Cell(name, note),
        **{f"d_{key}": points(signed[key], sign=True) for key in FOUR},
        "mean_gap": points(summary[f"{prefix}mean_gap"]),
        "gap": points(summary[f"{prefix}gap"]),
    }


def floor_row(summary: Mapping[str, Any]) -> Row:
    """The distances of two retrained models, a row of ``GAPS``."""
    return {
        "model": Cell("Retrain from Retrain", "the floor"),
        **{f"d_{key}": points(summary["floors"][key]) for key in FOUR},
        "mean_gap": points(summary["floor"]),
        "gap": Cell(phrases.DASH),
        "css": "base",
    }


def gaps(report: Report) -> list[Row]:
    """The unlearned model, the untouched one, and the floor."""
    found = report["summary"]
    barely = report["conclusion"] == "barely forgotten"
    return [
        gap_row("unlearned", found, note="barely forgotten" if barely else ""),
        gap_row("untouched", found, "base_"),
        floor_row(found),
    ]


def points(found: Mapping[str, Any], sign: bool = False) -> Cell:
    """A difference of fractions in percentage points, with its interval or why there is none."""
    if found["value"] is None:
        return Cell(phrases.DASH, found["reason"] or "")

    def text(value: float) -> str:
        return phrases.points(value) if sign else f"{100 * value:.1f}"

    if found["low"] is None:
        return Cell(text(found["value"]), found["reason"] or "")
    between = " to " if sign else phrases.DASH
    return Cell(
        text(found["value"]), phrases.span(text(found["low"]), text(found["high"]), between)
    )


def figure_columns(report: Report) -> list[Column]:
    """Those of the table of figures."""
    retrain = f"Retrain, mean of {report['retrained']}" if report["retrained"] else "Retrain"
    return [
        Column("figure", "figure"),
        Column("n", "n"),
        Column("base", TITLES["base"]),
        Column("unlearned", TITLES["unlearned"]),
        Column("retrain", retrain),
    ]


def figures(report: Report) -> list[Row]:
    """A row for each figure that was measured on any side."""
    return [_figure_row(sides) for sides in by_key(report) if _measured(sides)]


def unmeasured(report: Report) -> list[str]:
    """What was measured on no side, with the reason, a phrase for each reason."""
    found: dict[str, list[str]] = {}
    for sides in by_key(report):
        if not _measured(sides):
            row = next(iter(sides.values()))
            found.setdefault(row["reason"] or "", []).append(row["title"])
    return [f"{phrases.listed(titles)} ({reason})" for reason, titles in found.items()]


def by_key(report: Report) -> list[dict[str, Mapping[str, Any]]]:
    """The figures of all samples together, each by side, in the order of the metrics."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in report["figures"]:
        if not row["group"] and row["side"] in SIDES:
            found.setdefault(row["key"], {})[row["side"]] = row
    return list(found.values())


def by_group(report: Report, key: str) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The figures of a key by group and side, such as the points of a curve."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in report["figures"]:
        if row["key"] == key and row["group"] and row["side"] in SIDES:
            found.setdefault(row["group"], {})[row["side"]] = row
    return found


def _measured(sides: Mapping[str, Mapping[str, Any]]) -> bool:
    return any(row["value"] is not None for row in sides.values())


def _figure_row(sides: Mapping[str, Mapping[str, Any]]) -> Row:
    row = next(row for row in sides.values() if row["value"] is not None)
    title, name = row["title"], row["name"]
    if name and name.casefold() != title.casefold():
        name = f"{name} ({title})" if len(title) <= 4 else name
    shown = name or title
    arrow = table.ARROWS[row["better"]]
    return {
        "figure": Cell(f"{shown[0].upper()}{shown[1:]} {arrow}".rstrip(), row["about"]),
        "n": _count(sides.get("unlearned", row)),
        **{side: cell(sides[side], sign=True) for side in SIDES if side in sides},
    }


def _count(row: Mapping[str, Any]) -> Cell:
    return Cell(f"{row['n']:,}", row["detail"]) if row["n"] else Cell(phrases.DASH)


def markdown(report: Report) -> str:
    """Verdict, distances from Retrain, and every figure."""
    lines = [f"# {title(report)}", "", *(f"- {line}" for line in report["verdict"]), ""]
    lines += [table.markdown(GAPS, gaps(report))]
    lines += [table.markdown(figure_columns(report), figures(report))]
    if missing := unmeasured(report):
        lines += [f"Not measured: {'; '.join(missing)}.", ""]
    lines += ["Intervals cover 95 %.", ""]
    facts = report["provenance"]["facts"]
    lines += [f"- {name}: {setting_text(value)}" for name, value in facts["run"].items()]
    lines += [f"- split: {name} {value}" for name, value in facts["split"].items()]
    return "\n".join(lines) + "\n"


def csv(report: Report) -> str:
    """Every figure of every side, fractions as they are, then the gaps and the floor."""
    return table.csv(CSV, _lines(report))


def _lines(report: Report) -> Iterator[dict[str, Any]]:
    keys = ("side", "group", "unit", "n", "value", "low", "high", "note", "reason")
    for row in report["figures"]:
        yield {"figure": row["key"], **{key: row[key] for key in keys}}
    found = report["summary"]
    sides = {"base": "base_", "unlearned": ""}
    for side, prefix in sides.items():
        rows = {key: found[f"{prefix}{key}"] for key in ("gap", "mean_gap")}
        rows |= {f"distance_{key}": found[f"{prefix}distances"][key] for key in FOUR}
        yield from (_line(side, key, one) for key, one in rows.items())
    yield _line("retrain", "floor", found["floor"])
    yield from (_line("retrain", f"floor_{key}", found["floors"][key]) for key in FOUR)


def _line(side: str, key: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {"side": side, "figure": key, "unit": "points", **found}


def title(report: Report) -> str:
    """``Forgetting Shirt``, ``Forgetting 600 samples at random``."""
    forgotten = report["forgotten"]
    samples = counted(forgotten["samples"], "sample")
    named = forgotten["spec"].partition(":")[2]
    what = {
        "random": f"{samples} at random",
        "class": str(forgotten["label"]),
        "cell": named.replace("/", " in "),
        "flipped": f"{samples} with a wrong label",
    }
    return f"Forgetting {what.get(forgotten['kind'], f'{samples} of a list')}"
