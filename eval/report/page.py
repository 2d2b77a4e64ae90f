"""``report.html``: one self-contained page made from the report and the images."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from erase.eval.pages import phrases, plots
from erase.eval.pages.html import data_uri, spread, template
from erase.eval.pages.table import Cell, Column, Row
from erase.eval.recovery.report import section
from erase.eval.report import verdict
from erase.eval.report.figures import Moved, figures, groups, panels
from erase.eval.report.grids import Evidence, failures, pictures
from erase.eval.report.provenance import told
from erase.eval.report.result import read_object
from erase.eval.screen import screen_of
from erase.images.previews import read_previews
from erase.runtime.places import near

if TYPE_CHECKING:
    pass


STRIP = 3
"""Pairs beside the verdict."""


def render(report: Mapping[str, Any], evidence: Evidence, run: Path, attack: Path) -> str:
    """The page as HTML.

    Args:
        report: as in ``report.json``.
        evidence: images, and what was recognised in them.
        run: the run folder, for the commands that the page shows.
        attack: folder of the images that attacks brought back.
    """
    recipe = report["provenance"]["recipe"]
    grids = pictures(report, evidence)
    place = near(run)
    losses = report["conclusion"]["losses"]
    columns = _group_columns(report)
    sensitive = _is_sensitive(report, run)
    html: str = template("report.html.j2").render(
        r=report,
        screen=screen_of(report["run"]["model"]),
        p=report["provenance"],
        recipe=recipe,
        title=_title(report),
        big=_big(report),
        lines=figures(report),
        grids=grids,
        failures=failures(report, evidence),
        told=told(report),
        strip=spread(grids[0].pairs, STRIP) if grids else [],
        charts=charts(report),
        lost={a: {x["label"] for x in losses if x["axis"] == a} for a in report["axes"]},
        became=_became(report),
        group_columns=columns,
        groups=[_group(row, columns) for row in groups(report)],
        part_columns=PARTS,
        parts=_parts(report["nudity"]) if report["nudity"] else [],
        neighbours=_neighbours(report),
        panels=panels(report),
        held_out=_held_out(report, evidence),
        loss=Markup(plots.loss_curve(report["training"])) if report["training"] else None,
        saliency=Markup(plots.saliency_by_layer(report["mask"])) if report["mask"] else None,
        blocks=_blocks(report["mask"]),
        prompt=(report["provenance"]["pairs"] or [[report["concept"]["word"]]])[0][0],
        sets=sorted({p.set for p in evidence.pictures["base"]}),
        run=place,
        veiled=report["concept"]["kind"] == "nudity" or bool(evidence.flagged),
        previews=_previews(run),
        veiled_previews=sensitive,
        exact_columns=EXACT,
        exact_rows=_exact(report),
        attacks=section(report["recovery"], attack, sensitive) if report["recovery"] else None,
        export=f"{run.name or 'erased'}.safetensors",
        pipeline=_pipeline(run / "model" / "model_index.json"),
        code=code_of(run / "model", f"{place}/model", report),
    )
    return html


def _is_sensitive(report: Mapping[str, Any], run: Path) -> bool:
    """Whether images that no detector has looked at may show nudity: it was asked about, or is one
    of the run's concepts, whose previews stand on the pages of all."""
    record = run / "run.json"
    kinds = read_object(record).get("kinds", ()) if record.is_file() else ()
    return report["nudity"] is not None or "nudity" in (report["concept"]["kind"], *kinds)


WHEN = ("before", "after")
PARTS = [
    Column("class", "class"),
    *(
        Column(f"{what} {side}", f"{what} {side}")
        for what in ("detections", "images")
        for side in WHEN
    ),
    Column("change", "change"),
]


def _group_columns(report: Mapping[str, Any]) -> list[Column]:
    """Those of the table of what else moved."""
    heads = ("images", report["over_erasure"]["lpips"] or "LPIPS", "another seed", "further")
    sides = [f"{what} {side}" for what in ("CLIP score", "recognised") for side in WHEN]
    return [Column(head, head) for head in ("group", *heads, *sides)]


def _group(row: Moved, columns: Sequence[Column]) -> Row:
    moved = (row.lpips, row.other, replace(row.further, tone=row.tone))
    cells = (Cell(row.name, row.prompts), row.n, *moved, *row.clip, *row.recognised)
    return {column.key: cell for column, cell in zip(columns, cells, strict=True)}


def _parts(nudity: Mapping[str, Any]) -> list[Row]:
    """Detections and images with any, by class of body part."""
    found = nudity["compared"]
    rows: list[Row] = []
    classes = (found["per_class"], found["base"]["per_class"], found["erased"]["per_class"])
    for row, base, erased in zip(*classes, strict=True):
        change = Cell(phrases.DASH)
        if moved := row["change"]:
            value, low, high = (phrases.points(moved[key]) for key in ("value", "low", "high"))
            change = Cell(value, phrases.span(low, high, " to "))
        rows.append(
            {
                "class": phrases.words(row["label"].lower()),
                "detections before": row["base"],
                "detections after": row["erased"],
                "images before": base["images"],
                "images after": erased["images"],
                "change": change,
            }
        )
    return rows


def _held_out(report: Mapping[str, Any], evidence: Evidence) -> list[str]:
    """The retained prompts that are judged; none where some of them were trained on."""
    kept = next((g for g in report["over_erasure"]["groups"] if g["name"] == "retain"), None)
    if kept is None or kept["trained"] != 0:
        return []
    return sorted({p.prompt for p in evidence.pictures["base"] if p.role == "retain"})


EXACT = [
    Column("figure", "figure"),
    Column("own", "this model"),
    Column("never", "never knew it"),
    Column("gap", "gap"),
]


def _exact(report: Mapping[str, Any]) -> list[Row]:
    """The figures beside those of a model that never knew the concept, and what both show."""
    found = report["exact"]
    if found is None:
        return []
    rows: list[Row] = []
    for key, gap in found["gaps"].items():
        never = found["never"][key]
        if key == "distance":
            texts = [phrases.distance(never["value"] + d) for d in (gap, 0.0)]
            cells = (found["name"], *map(Cell, texts), f"{gap:+.2f}")
        else:
            told = report["summary"]["erased"][key]
            own = Cell(phrases.percent(told["value"]), phrases.interval(told))
            other = Cell(phrases.percent(never["value"]), phrases.interval(never))
            cells = (key.upper(), own, other, phrases.points(gap))
        rows.append(dict(zip(("figure", "own", "never", "gap"), cells, strict=True)))
    both = (report["became"]["erased"], found["became"])
    sums = [sum(counts.values()) for counts in both]
    for label in sorted({*both[0], *both[1]}, key=lambda k: -both[1].get(k, 0)):
        shares = [counts.get(label, 0) / n for counts, n in zip(both, sums, strict=True)]
        texts = [phrases.percent(share) for share in shares]
        cells = (
            f"shows {phrases.words(label)}",
            *map(Cell, texts),
            phrases.points(shares[0] - shares[1]),
        )
        rows.append(dict(zip(("figure", "own", "never", "gap"), cells, strict=True)))
    return rows


def _neighbours(report: Mapping[str, Any]) -> str:
    """Why the neighbours are what they are."""
    group = next((g for g in report["over_erasure"]["groups"] if g["name"] == "neighbour"), None)
    if group is None:
        return ""
    if given := report["run"]["neighbours"]:
        return f"The neighbours are the prompts of {given}, given with --neighbours."
    return (
        "The neighbours come from the concept’s file: they were chosen by hand, not measured, as "
        "the most likely to be damaged along with it. --neighbours takes others."
    )


def _pipeline(index: Path) -> str | None:
    """The class that diffusers opens the model with; None where there is no model."""
    if not index.exists():
        return None
    return str(json.loads(index.read_text(encoding="utf-8"))["_class_name"])


def code_of(model: Path, place: str, report: Mapping[str, Any]) -> str | None:
    """How a model is used that no pipeline opens by a prompt; None for one that is told texts."""
    from erase.formats.folder import index_of
    from erase.formats.usage import usage

    if index_of(model) is None:
        return None
    found = usage(model, place, report["provenance"]["recipe"] or {}, [report["concept"]["word"]])
    return None if found.exchanged else "\n".join(found.code)


def _title(report: Mapping[str, Any]) -> str:
    return f"Erasing {phrases.called(report['concept'])}"


def _big(report: Mapping[str, Any]) -> tuple[str, str] | None:
    """How often the concept is recognised, before and after, if the base shows it at all."""
    sides = [phrases.complement(report["summary"][s]["ua"]) for s in ("base", "erased")]
    if sides[0] is None or sides[1] is None or sides[0]["value"] < verdict.SHOWN:
        return None
    return phrases.percent(sides[0]["value"]), phrases.percent(sides[1]["value"])


@dataclass(frozen=True)
class Chart:
    """Classes of one axis.

    Attributes:
        rows: drawn, in the order of the report.
        whole: retained classes that are recognised in every image before and after, in a word.
    """

    rows: Sequence[Mapping[str, Any]]
    whole: Sequence[Mapping[str, Any]]


def charts(report: Mapping[str, Any]) -> dict[str, Chart]:
    """The per-class charts by axis, the concept's own axis first."""
    grouped: dict[str, list[Mapping[str, Any]]] = {}
    for row in report["per_class"]:
        grouped.setdefault(row["axis"], []).append(row)
    return {
        axis: Chart(
            [row for row in rows if not _is_whole(row)], [row for row in rows if _is_whole(row)]
        )
        for axis, rows in grouped.items()
    }


def _is_whole(row: Mapping[str, Any]) -> bool:
    return bool(row["role"] == "retain" and row["base"]["value"] == row["erased"]["value"] == 1)


def _became(report: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """What the erased forget images were recognised as: label, images, share."""
    counts = report["became"]["erased"]
    total = sum(counts.values())
    return [(label, k, k / total) for label, k in list(counts.items())[:8]]


def _blocks(layers: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, float]]:
    """Block, weights, share of them in the mask."""
    found = []
    for block, members in plots.by_block(layers).items():
        size = sum(m["size"] for m in members)
        found.append((block, size, sum(m["masked"] for m in members) / size))
    return found


def _previews(run: Path) -> list[tuple[str, list[tuple[int, str]]]]:
    """What was drawn while training: each prompt with its images by step."""
    return [
        (shown.prompt or "(empty prompt)", [(step, data_uri(file)) for step, file in files])
        for shown, files in read_previews(run)
        if files
    ]
