"""The report of a run that erased several concepts: one over the reports of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from markupsafe import Markup

from erase.eval.pages import phrases
from erase.eval.pages.html import data_uri, spread, template
from erase.eval.pages.table import Cell, Column, Row, csv
from erase.eval.pictures import read_pictures
from erase.eval.report.evaluate import read_report
from erase.eval.report.family import table
from erase.eval.report.grids import Pair
from erase.eval.report.page import code_of
from erase.eval.report.result import share_of
from erase.eval.report.schema import SCHEMA
from erase.eval.report.verdict import about
from erase.eval.screen import screen_of
from erase.runtime.files import write_json, write_text
from erase.runtime.places import near

KEYS = (
    "concept",
    "anchor",
    "conclusion",
    "summary",
    "fidelity",
    "nudity",
    "recovery",
    "verdict",
    "figures",
)
"""What is taken from a concept's own report."""
SHOWN = 6
"""Pairs of images of each concept."""


def conclude(
    run: Path, places: Sequence[Path], own: Sequence[Set[tuple[str, int, int]] | None]
) -> dict[str, Any]:
    """Writes the run's ``report.{json,html,md,csv}``.

    Args:
        run: the run folder.
        places: folders of the concepts' own reports, below it.
        own: each concept's images (``Picture.key``).

    Returns:
        The report as it stands in ``report.json``: by concept the figures of its own report, and
        their means.
    """
    reports = [read_report(place) for place in places]
    rows, mean, text = table(places)
    entries = [
        {
            "folder": place.relative_to(run).as_posix(),
            **{key: report[key] for key in KEYS},
        }
        for place, report in zip(places, reports, strict=True)
    ]
    facts = reports[0]["run"]
    made = {
        "schema": SCHEMA,
        "run": {
            **facts,
            "concept": " + ".join(row["concept"] for row in rows),
            "anchor": " + ".join(phrases.instead(row["anchor"]) for row in rows),
        },
        "concepts": entries,
        "mean": mean,
        "verdict": [" ".join(about(report)) for report in reports],
        "warnings": list(dict.fromkeys(told for report in reports for told in report["warnings"])),
        "mask": reports[0]["mask"],
        "provenance": reports[0]["provenance"],
    }
    result: dict[str, Any] = json.loads(json.dumps(made))
    veiled = any(entry["nudity"] is not None for entry in entries)
    pictures = [_pairs(run, keys, veiled) for keys in own]
    html = template("together.html.j2").render(
        r=result,
        screen=screen_of(facts["model"]),
        columns=_columns(rows),
        lines=[_line(entry, row) for entry, row in zip(result["concepts"], rows, strict=True)],
        pictures=pictures,
        rules=_rules(result),
        veiled=veiled,
        trained=bool(reports[0]["training"]),
        code=code_of(run / "model", f"{near(run)}/model", reports[0]),
        run=near(run),
        export=f"{run.name or 'erased'}.safetensors",
    )
    write_json(run / "report.json", result)
    write_text(run / "report.md", f"{_lines(result)}\n{text}")
    write_text(run / "report.csv", csv(rows[0], rows))
    write_text(run / "report.html", html)
    return result


SHARES = {"ua": "UA", "ira": "IRA", "cra": "CRA", "became_anchor": "became the anchor"}


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    shares = (Column(key, title, better="up") for key, title in SHARES.items())
    fid = Column("fid", rows[0]["fid_name"] or "FID", better="down")
    return [Column("concept", "concept"), *shares, fid]


def _line(entry: Mapping[str, Any], row: Mapping[str, Any]) -> Row:
    """A concept's figures, its name a link to its own page."""
    link = Markup('<a href="{}/report.html">{}</a>').format(
        entry["folder"], entry["concept"]["name"] or "(empty prompt)"
    )
    anchor = row["anchor"]
    line: dict[str, Any] = {
        "concept": Cell(link, "" if anchor is None else f"to {phrases.instead(anchor)}"),
        "fid": Cell(phrases.DASH),
    }
    for key in SHARES:
        before, after = (share_of(entry, side, key) for side in ("base", "erased"))
        beside = f"; base {phrases.percent(before['value'])}" if before and key != "ua" else ""
        line[key] = (
            Cell(phrases.percent(after["value"]), phrases.interval(after) + beside)
            if after
            else Cell(phrases.DASH)
        )
    if row["fid_erased"] is not None:
        line["fid"] = Cell(f"{row['fid_erased']:.2f}", f"floor {row['fid_floor']:.2f}")
    return line


def _pairs(run: Path, keys: Set[tuple[str, int, int]] | None, veiled: bool) -> list[Pair]:
    """Some of a concept's forget images before and after."""
    sides = (
        [
            picture
            for manifest in sorted((run / "eval" / side).glob("*/manifest.jsonl"))
            for picture in read_pictures(manifest.parent)
            if picture.role == "forget" and (keys is None or picture.key in keys)
        ]
        for side in ("base", "erased")
    )
    return [
        Pair(
            data_uri(base.file),
            data_uri(erased.file),
            f"{base.prompt} (seed {base.seed})",
            base.prompt,
            False,
            veiled,
        )
        for base, erased in spread(list(zip(*sides, strict=True)), SHOWN)
    ]


def _rules(result: Mapping[str, Any]) -> list[str]:
    """How the concepts' verdicts were reached, each rule once."""
    every = (rule for one in result["concepts"] for rule in one["conclusion"]["rules"])
    return list(dict.fromkeys(every))


def _lines(result: Mapping[str, Any]) -> str:
    title = f"# Erasing {result['run']['concept']} together"
    said = [f"- {sentence}" for sentence in result["verdict"]]
    concluded = ["How this was concluded:", "", *(f"- {rule}" for rule in _rules(result))]
    return "\n".join([title, "", *said, "", *concluded, ""])
