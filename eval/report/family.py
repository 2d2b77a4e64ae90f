"""One table over the runs of a family of concepts (``--concept all``)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from erase.eval.pages.phrases import FEW
from erase.eval.pages.table import Cell, Column, Row, markdown
from erase.eval.report.result import share_of
from erase.runtime.files import write_json, write_text

FIGURES = ("ua", "ira", "cra")


def summarise(folder: Path, runs: Sequence[Path]) -> str:
    """Writes ``summary.json`` and ``summary.md`` beside the runs.

    Args:
        folder: of the family.
        runs: finished run folders.

    Returns:
        The Markdown table.
    """
    rows, mean, text = table(runs)
    write_json(folder / "summary.json", {"runs": rows, "mean": mean})
    write_text(folder / "summary.md", text)
    return text


def table(reports: Sequence[Path]) -> tuple[list[dict[str, Any]], dict[str, Any] | None, str]:
    """The figures of several reports.

    Args:
        reports: folders with a ``report.json``.

    Returns:
        Rows, their mean, and both as a Markdown table: UA, IRA, CRA in percent, the base in
        brackets, means below.
    """
    rows = [_row(folder) for folder in reports]
    fid = next((row["fid_name"] for row in rows if row["fid_name"]), "FID")
    columns = [
        Column("concept", "concept"),
        Column("anchor", "anchor"),
        Column("ua", "UA", "%"),
        Column("ira", "IRA % (base)"),
        Column("cra", "CRA % (base)"),
        Column("lowest", "worst retained class"),
        Column("fid", f"{fid} (floor)"),
    ]
    mean = _means(rows) if rows else None
    lines = map(_line, [*rows, mean] if mean else rows)
    told = dict.fromkeys(warning for row in rows for warning in row.pop("warnings"))
    return rows, mean, markdown(columns, lines) + "".join(f"\n{warning}\n" for warning in told)


def _row(run: Path) -> dict[str, Any]:
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    row: dict[str, Any] = {
        "concept": report["run"]["concept"],
        "anchor": report["run"]["anchor"],
        "folder": run.name,
        "warnings": report["warnings"],
    }
    for side in ("base", "erased"):
        for figure in FIGURES:
            found = share_of(report, side, figure)
            row[f"{side}_{figure}"] = None if found is None else found["value"]
    losses = [
        100 * (c["erased"]["value"] - c["base"]["value"])
        for c in report["per_class"]
        if c["role"] == "retain" and c["erased"]["n"] >= FEW
    ]
    row["lowest"] = round(min(losses), 1) if losses else None
    fid = next((f for f in report["fidelity"] if f["name"].startswith("FID")), None)
    row["fid_name"] = fid and fid["name"]
    row["fid_erased"] = fid and fid["erased"]
    row["fid_floor"] = fid and fid["base"]
    return row


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {"concept": "mean", "anchor": "", "folder": ""}
    for key in rows[0]:
        if key not in found:
            values = [r[key] for r in rows if isinstance(r[key], int | float)]
            found[key] = fmean(values) if values else None
    return found


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{100 * value:.1f}"


def _line(row: Mapping[str, Any]) -> Row:
    def beside(key: str) -> Cell:
        return Cell(_percent(row[f"erased_{key}"]), _percent(row[f"base_{key}"]))

    fid: Cell | str = ""
    if row["fid_erased"] is not None:
        fid = Cell(f"{row['fid_erased']:.2f}", f"{row['fid_floor']:.2f}")
    return {
        "concept": row["concept"],
        "anchor": row["anchor"],
        "ua": _percent(row["erased_ua"]),
        "ira": beside("ira"),
        "cra": beside("cra"),
        "lowest": "" if row["lowest"] is None else f"{row['lowest']:+.1f}",
        "fid": fid,
    }
