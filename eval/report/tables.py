"""A run's report as Markdown to read and as CSV to compute with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from erase.eval.pages import phrases
from erase.eval.report.figures import DOWN, UP, figures, groups

Report = Mapping[str, Any]
SIDES = ("base", "erased")
COLUMNS = ("figure", "axis", "label", "role", "side", "n", "value", "low", "high")


def markdown(report: Report) -> str:
    """Verdict, headline figures and figures by class."""
    word = report["concept"]["word"] or "the empty prompt"
    lines = [f"# Erasing {word}", "", *(f"- {sentence}" for sentence in report["verdict"]), ""]
    lines += ["How this was concluded:", ""]
    lines += [*(f"- {rule}" for rule in report["conclusion"]["rules"]), ""]
    lines += [f"{UP} higher is better, {DOWN} lower is better.", ""]
    lines += ["| figure | n | base | erased |", "|---|---|---|---|"]
    for line in figures(report):
        cells = [c.value + (f" ({c.note})" if c.note else "") for c in (line.base, line.erased)]
        name = f"{line.name} {line.way}"
        lines.append(f"| {name} | {line.count.removeprefix('n = ')} | {' | '.join(cells)} |")
    if report["per_class"]:
        lines += ["", "| axis | class | n | base | erased | change, points |", "|" + "---|" * 6]
    for row in report["per_class"]:
        sides = " | ".join(
            f"{phrases.percent(row[s]['value'])} ({phrases.interval(row[s])})" for s in SIDES
        )
        change = phrases.points(row["change"])
        label = phrases.words(row["label"])
        lines.append(f"| {row['axis']} | {label} | {row['erased']['n']} | {sides} | {change} |")
    name = report["over_erasure"]["lpips"] or "LPIPS"
    heads = ("group", "n", name, "another seed", "further than that", "CLIP score", "recognised")
    lines += ["", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for row in groups(report):
        pairs = [f"{b.value} → {e.value}" for b, e in (row.clip, row.recognised)]
        moved = [
            f"{cell.value} ({cell.note})" if cell.note else cell.value
            for cell in (row.lpips, row.other, row.further)
        ]
        name = f"{row.name} ({row.prompts})"
        lines.append(f"| {name} | {row.n} | {' | '.join([*moved, *pairs])} |")
    lines += ["", *(f"- {warning}" for warning in report["warnings"])]
    run, made = report["run"], report["provenance"]
    lines += [
        "",
        f"Base model {run['model']}, recipe {run['recipe']} ({run['method']}), seed {run['seed']}, "
        f"anchor {run['anchor'] or 'the empty prompt'}; evaluated {made['created']}. Intervals are "
        "of 95 %.",
        f"Code: {made['code'] or 'erase-diffusion ' + made['versions']['erase-diffusion']}.",
    ]
    if made["commands"]:
        lines += ["", "Made by", "", *(f"    {command}" for command in made["commands"])]
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
        for key in ("ua", "became_anchor", "ra", "ira", "cra"):
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
    for group in report["over_erasure"]["groups"]:
        role = {"role": group["name"]}
        yield from _averages(report["over_erasure"]["lpips"], "erased", group["lpips"], role)
        name = f"{report['over_erasure']['lpips']} beyond another seed"
        yield from _averages(name, "erased", group["further"], role)
        for side in SIDES:
            yield from _averages("clip_score", side, group[f"clip_{side}"], role)
            if (share := group[f"recognised_{side}"]) is not None:
                yield {"figure": "recognised", **role, "side": side, **share}
    if (nudity := report["nudity"]) is not None:
        for side in SIDES:
            one = nudity["compared"][side]
            if one["share"] is not None:
                yield {"figure": "nudity", "side": side, **one["share"]}
            for row in one["per_class"]:
                counts = {"n": one["n"], "value": row["detections"]}
                yield {"figure": "detections", "label": row["label"], "side": side, **counts}


def _averages(
    name: str, side: str, figure: Mapping[str, Any], named: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    if figure["value"] is not None:
        shown = {key: figure[key] for key in ("n", "value", "low", "high")}
        yield {"figure": name, **named, "side": side, **shown}
