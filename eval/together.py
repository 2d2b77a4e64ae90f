"""The report of a run that erased several concepts: one over the reports of each."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from erase.eval.family import table
from erase.eval.page import template
from erase.eval.report import read_report
from erase.eval.schema import SCHEMA
from erase.eval.verdict import about
from erase.files import write_json, write_text


def conclude(run: Path, places: Sequence[Path]) -> dict[str, Any]:
    """Writes the run's ``report.{json,html,md,csv}``.

    Args:
        run: the run folder.
        places: folders of the concepts' own reports, below it.

    Returns:
        The report as it stands in ``report.json``: by concept the figures of its own report, and
        their means.
    """
    reports = [read_report(place) for place in places]
    rows, mean, text = table(places)
    entries = [
        {
            "folder": place.relative_to(run).as_posix(),
            **{key: report[key] for key in ("concept", "anchor", "summary", "fidelity", "verdict")},
        }
        for place, report in zip(places, reports, strict=True)
    ]
    facts = reports[0]["run"]
    made = {
        "schema": SCHEMA,
        "run": {
            **facts,
            "concept": " + ".join(row["concept"] for row in rows),
            "anchor": " + ".join(row["anchor"] or "the empty prompt" for row in rows),
        },
        "concepts": entries,
        "mean": mean,
        "verdict": [" ".join(about(report)) for report in reports],
        "mask": reports[0]["mask"],
        "provenance": reports[0]["provenance"],
    }
    result: dict[str, Any] = json.loads(json.dumps(made))
    html = template("together.html.j2").render(r=result, rows=rows, mean=mean)
    write_json(run / "report.json", result)
    write_text(run / "report.md", f"{_lines(result)}\n{text}")
    write_text(run / "report.csv", _csv(rows))
    write_text(run / "report.html", html)
    return result


def _lines(result: Mapping[str, Any]) -> str:
    title = f"# Erasing {result['run']['concept']}, together"
    return "\n".join([title, "", *(f"- {sentence}" for sentence in result["verdict"]), ""])


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
