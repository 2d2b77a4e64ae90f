"""A run's report as Markdown to read and as CSV to compute with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from erase.eval import verdict
from erase.eval.page import figures

Report = Mapping[str, Any]
SIDES = ("base", "erased")
COLUMNS = ("figure", "axis", "label", "role", "side", "n", "value", "low", "high")


def markdown(report: Report) -> str:
    """Verdict, headline figures and figures by class."""
    word = report["concept"]["word"] or "the empty prompt"
    lines = [f"# Erasing {word}", "", *(f"- {sentence}" for sentence in report["verdict"]), ""]
    lines += ["| figure | n | base | erased |", "|---|---|---|---|"]
    for line in figures(report):
        cells = [c.value + (f" ({c.note})" if c.note else "") for c in (line.base, line.erased)]
        lines.append(f"| {line.name} | {line.count.removeprefix('n = ')} | {' | '.join(cells)} |")
    if report["per_class"]:
        lines += ["", "| axis | class | n | base | erased | change, points |", "|" + "---|" * 6]
    for row in report["per_class"]:
        sides = " | ".join(
            f"{verdict.percent(row[s]['value'])} ({verdict.interval(row[s])})" for s in SIDES
        )
        change = verdict.points(row["change"])
        label = verdict.words(row["label"])
        lines.append(f"| {row['axis']} | {label} | {row['erased']['n']} | {sides} | {change} |")
    run, made = report["run"], report["provenance"]
    lines += [
        "",
        f"Base model {run['model']}, recipe {run['recipe']} ({run['method']}), seed {run['seed']}, "
        f"anchor {run['anchor'] or 'the empty prompt'}; evaluated {made['created']}. Intervals are "
        "of 95 %.",
    ]
    return "\n".join(lines) + "\n"


def table(report: Report) -> str:
    """One line per figure and side: shares are fractions, bounds empty where there are none."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_rows(report))
    return out.getvalue()


def _rows(report: Report) -> Iterator[dict[str, Any]]:
    for side in SIDES:
        for key in ("ua", "became_anchor", "ira", "cra"):
            if (share := report["summary"][side][key]) is not None:
                yield {"figure": key, "side": side, **share}
    for row in report["per_class"]:
        named = {key: row[key] for key in ("axis", "label", "role")}
        for side in SIDES:
            yield {"figure": "recognised", **named, "side": side, **row[side]}
    for found in report["fidelity"]:
        for side in SIDES:
            yield {"figure": found["name"], "side": side, "n": found["n"], "value": found[side]}
    if (score := report["clip_score"]) is not None:
        for side in SIDES:
            yield {"figure": "clip_score", "side": side, **score[side]}
    if (nudity := report["nudity"]) is not None:
        for side in SIDES:
            one = nudity["compared"][side]
            if one["share"] is not None:
                yield {"figure": "nudity", "side": side, **one["share"]}
            for row in one["per_class"]:
                counts = {"n": one["n"], "value": row["detections"]}
                yield {"figure": "detections", "label": row["label"], "side": side, **counts}
