"""A run's report as Markdown to read and as CSV to compute with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from erase.eval.pages import phrases, table
from erase.eval.pages.table import Cell, Column
from erase.eval.report.figures import DOWN, UP, Line, Moved, figures, groups, panels

Report = Mapping[str, Any]
SIDES = ("base", "erased")
COLUMNS = ("figure", "axis", "label", "role", "side", "n", "value", "low", "high")


def markdown(report: Report) -> str:
    """Verdict, headline figures and figures by class."""
    word = phrases.called(report["concept"])
    lines = [f"# Erasing {word}", "", *(f"- {sentence}" for sentence in report["verdict"]), ""]
    lines += ["How this was concluded:", ""]
    lines += [*(f"- {rule}" for rule in report["conclusion"]["rules"]), ""]
    lines += [f"{UP} higher is better, {DOWN} lower is better.", ""]
    lines.append(table.markdown(FIGURES, map(_figure, figures(report))))
    if report["per_class"]:
        lines.append(table.markdown(CLASSES, map(_class, report["per_class"])))
    named = Column("lpips", report["over_erasure"]["lpips"] or "LPIPS")
    lines.append(table.markdown([*GROUPS[:2], named, *GROUPS[2:]], map(_group, groups(report))))
    for panel in panels(report):
        lines += [f"## {panel.title}", "", *panel.about, ""]
        lines.append(table.markdown(panel.columns, panel.rows))
    lines += [*(f"- {warning}" for warning in report["warnings"]), ""]
    run, made = report["run"], report["provenance"]
    lines += [
        f"Base model {run['model']}, recipe {run['recipe']} ({run['method']}), seed {run['seed']}, "
        f"anchor {phrases.instead(run['anchor'])}; evaluated {made['created']}. Intervals are "
        f"at 95{phrases.SPACE}%.",
        f"Code: {made['code'] or 'erase-diffusion ' + made['versions']['erase-diffusion']}.",
    ]
    if made["commands"]:
        lines += ["", "Made by:", "", *(f"    {command}" for command in made["commands"])]
    return "\n".join(lines) + "\n"


FIGURES = [Column(key, key) for key in ("figure", "n", *SIDES)]
CLASSES = [
    *(Column(key, key) for key in ("axis", "class", "n", *SIDES)),
    Column("change", "change", "points"),
]
GROUPS = [
    Column("group", "group"),
    Column("n", "n"),
    Column("other", "another seed"),
    Column("further", "further than that"),
    Column("clip", "CLIP score"),
    Column("recognised", "recognised"),
]


def _figure(line: Line) -> table.Row:
    return {
        "figure": f"{line.name} {line.way}".rstrip(),
        "n": line.count.removeprefix("n = "),
        "base": line.base,
        "erased": line.erased,
    }


def _class(row: Mapping[str, Any]) -> table.Row:
    sides = {s: Cell(phrases.percent(row[s]["value"]), phrases.interval(row[s])) for s in SIDES}
    return {
        "axis": row["axis"],
        "class": phrases.words(row["label"]),
        "n": row["erased"]["n"],
        "change": phrases.points(row["change"]),
        **sides,
    }


def _group(row: Moved) -> table.Row:
    return {
        "group": f"{row.name} ({row.prompts})",
        "n": row.n,
        "lpips": row.lpips,
        "other": row.other,
        "further": row.further,
        "clip": " → ".join(cell.text for cell in row.clip),
        "recognised": " → ".join(cell.text for cell in row.recognised),
    }


def csv(report: Report) -> str:
    """One line per figure and side: shares are fractions, bounds empty where there are none."""
    return table.csv(COLUMNS, [*_measured(report), *_rows(report)])


def _measured(report: Report) -> Iterator[dict[str, Any]]:
    """The metrics' figures; distances to a reference under the name of their network."""
    for row in report["figures"]:
        if row["value"] is not None and not row["group"]:
            name = row["title"] if row["against"] == "reference" else row["key"]
            shown = {key: row[key] for key in ("side", "n", "value", "low", "high")}
            yield {"figure": name, **shown}


def _rows(report: Report) -> Iterator[dict[str, Any]]:
    """Classes, groups of prompts and body parts."""
    for row in report["per_class"]:
        named = {key: row[key] for key in ("axis", "label", "role")}
        for side in SIDES:
            yield {"figure": "recognised", **named, "side": side, **row[side]}
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
