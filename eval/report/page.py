"""``report.html``: one self-contained page made from the report and the images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from erase.eval.pages import phrases, plots
from erase.eval.pages.html import data_uri, mixed, spread, template
from erase.eval.pages.table import Cell, Column, Row
from erase.eval.pictures import Picture
from erase.eval.report import verdict
from erase.eval.report.figures import GROUP_NAMES, Moved, figures, groups
from erase.eval.report.provenance import told
from erase.images.previews import read_previews
from erase.prompts.groups import GROUPS
from erase.runtime.places import near
from erase.runtime.words import counted

if TYPE_CHECKING:
    from erase.eval.metrics.classifier import Judged


FORGET_SHOWN, RETAIN_SHOWN, EXCEPTIONS_SHOWN, GROUP_SHOWN = 16, 24, 16, 8
"""Most pairs in a grid, whole rows of eight."""
STRIP = 3
"""Pairs beside the verdict."""


@dataclass(frozen=True)
class Pair:
    """The same prompt and seed before and after.

    Attributes:
        base, erased: images as data URIs.
        title: prompt and seed.
        caption: what was asked for or recognised.
        changed: whether the caption is worth a second look.
        veiled: blurred until clicked.
    """

    base: str
    erased: str
    title: str
    caption: str
    changed: bool
    veiled: bool


@dataclass(frozen=True)
class Grid:
    """A titled grid of pairs."""

    title: str
    note: str
    pairs: Sequence[Pair]


def render(report: Mapping[str, Any], evidence: Evidence, run: Path) -> str:
    """The page as HTML.

    Args:
        report: as in ``report.json``.
        evidence: images, and what was recognised in them.
        run: the run folder, for the commands that the page shows.
    """
    recipe = report["provenance"]["recipe"]
    grids = _grids(report, evidence)
    place = near(run)
    losses = report["conclusion"]["losses"]
    columns = _group_columns(report)
    html: str = template("report.html.j2").render(
        r=report,
        p=report["provenance"],
        recipe=recipe,
        title=_title(report),
        big=_big(report),
        lines=figures(report),
        grids=grids,
        failures=_failures(report, evidence),
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
        held_out=_held_out(report, evidence),
        loss=Markup(plots.loss_curve(report["training"])) if report["training"] else None,
        saliency=Markup(plots.saliency_by_layer(report["mask"])) if report["mask"] else None,
        blocks=_blocks(report["mask"]),
        prompt=(report["provenance"]["pairs"] or [[report["concept"]["word"]]])[0][0],
        sets=sorted({p.set for p in evidence.pictures["base"]}),
        run=place,
        veiled=report["concept"]["kind"] == "nudity" or bool(evidence.flagged),
        previews=_previews(run),
        export=f"{run.name or 'erased'}.safetensors",
        pipeline=_pipeline(run / "model" / "model_index.json"),
    )
    return html


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


def _neighbours(report: Mapping[str, Any]) -> str:
    """Why the neighbours are what they are."""
    group = next((g for g in report["over_erasure"]["groups"] if g["name"] == "neighbour"), None)
    if group is None:
        return ""
    if given := report["run"]["neighbours"]:
        return f"The neighbours are the prompts of {given}, as --neighbours says."
    return (
        "The neighbours stand in the concept’s file. They were chosen by hand as the likeliest to "
        "be damaged with it, not by measuring; --neighbours takes others."
    )


def _pipeline(index: Path) -> str | None:
    """The class that diffusers opens the model with; None where there is no model."""
    if not index.exists():
        return None
    return str(json.loads(index.read_text(encoding="utf-8"))["_class_name"])


def _title(report: Mapping[str, Any]) -> str:
    return f"Erasing {report['concept']['word'] or 'the empty prompt'}"


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


Joined = tuple[Picture, Picture, "Judged", "Judged"]
"""An image before and after, and what the judges say of both."""


def _joined(evidence: Evidence, role: str) -> list[Joined]:
    rows = zip(
        evidence.pictures["base"],
        evidence.pictures["erased"],
        evidence.judged["base"],
        evidence.judged["erased"],
        strict=True,
    )
    return [row for row in rows if row[0].role == role]


def _pairs(report: Mapping[str, Any], evidence: Evidence, chosen: Iterable[Joined]) -> list[Pair]:
    return [
        _pair(
            *row,
            axis=report["target"]["axis"],
            label=report["target"]["label"],
            judged=bool(report["axes"]),
            veiled=report["concept"]["kind"] == "nudity"
            or not evidence.flagged.isdisjoint({row[0].file, row[1].file}),
        )
        for row in chosen
    ]


def _grids(report: Mapping[str, Any], evidence: Evidence) -> list[Grid]:
    """Before and after: the concept, what was kept, and what else moved."""
    word = report["concept"]["word"] or "the concept"
    axis = report["target"]["axis"]
    forget = spread(_joined(evidence, "forget"), FORGET_SHOWN)
    kept = mixed(_joined(evidence, "retain"), lambda r: r[0].labels.get(axis, ""), RETAIN_SHOWN)
    grids = [
        Grid(f"Prompts with {word}", "", _pairs(report, evidence, forget)),
        Grid("Retained prompts", "", _pairs(report, evidence, kept)),
        *_other_grids(report, evidence, report["concept"]["kind"] == "nudity"),
    ]
    return [g for g in grids if g.pairs]


def _failures(report: Mapping[str, Any], evidence: Evidence) -> list[Grid]:
    """What went wrong, image by image; a grid without pairs says that nothing did."""
    word = report["concept"]["word"] or "the concept"
    axis, label = report["target"]["axis"], report["target"]["label"]
    forget, kept = _joined(evidence, "forget"), _joined(evidence, "retain")
    found: list[tuple[str, str, list[Joined]]] = []
    if report["nudity"] is not None and report["concept"]["kind"] == "nudity":
        still = [row for row in forget if row[1].file in evidence.flagged]
        note = f"{len(still)} of {counted(len(forget), 'image')} of forget prompts."
        found.append(("Nudity still detected", note, still))
    if report["axes"]:
        still = [row for row in forget if row[3].said[axis][0] == label]
        lost = [row for row in kept if _all_right(row[2]) and not _all_right(row[3])]
        was, one = ("was", "is") if len(lost) == 1 else ("were", "are")
        found += [
            (
                f"Still recognised as {word}",
                f"{len(still)} of {counted(len(forget), 'image')} with {word} in the prompt.",
                still,
            ),
            (
                "Retained, but no longer recognised",
                f"{len(lost)} of {counted(len(kept), 'retained image')} {was} right before "
                f"and {one} not after.",
                lost,
            ),
        ]
    return [
        Grid(title, note, _pairs(report, evidence, spread(rows, EXCEPTIONS_SHOWN)))
        for title, note, rows in found
    ]


def _other_grids(report: Mapping[str, Any], evidence: Evidence, veiled: bool) -> list[Grid]:
    """Before and after of prompts that count towards no accuracy."""
    word = report["concept"]["word"] or "the empty prompt"
    pairs = list(
        zip(evidence.others.get("base", ()), evidence.others.get("erased", ()), strict=True)
    )
    axis = report["target"]["axis"]
    found = []
    for role in GROUPS:
        own = [(base, erased) for base, erased in pairs if base.role == role]
        chosen = spread(own, GROUP_SHOWN)
        if role == "neighbour":  # each of them, though they take turns in the set
            chosen = mixed(own, lambda r: r[0].labels.get(axis, r[0].prompt), GROUP_SHOWN)
        shown = [
            Pair(
                data_uri(base.file),
                data_uri(erased.file),
                f"{base.prompt or '(empty prompt)'} (seed {base.seed})",
                "" if role == "empty" else base.prompt,
                False,
                veiled,
            )
            for base, erased in chosen
        ]
        title = GROUP_NAMES[role].format(word=word)
        found.append(Grid(title[0].upper() + title[1:], "", shown))
    return found


def _previews(run: Path) -> list[tuple[str, list[tuple[int, str]]]]:
    """What was drawn while training: each prompt with its images by step."""
    return [
        (shown.prompt or "(empty prompt)", [(step, data_uri(file)) for step, file in files])
        for shown, files in read_previews(run)
        if files
    ]


def _all_right(row: Judged) -> bool:
    return all(row.right(axis) for axis in row.said if axis in row.labels)


def _pair(
    base: Picture,
    erased: Picture,
    before: Judged,
    after: Judged,
    *,
    axis: str,
    label: str,
    judged: bool,
    veiled: bool,
) -> Pair:
    wrong = [a for a in after.said if a in after.labels and not after.right(a)]
    if not judged:
        caption, changed = base.prompt, False
    elif base.role == "forget":
        got = after.said[axis][0]
        caption, changed = f"→ {phrases.words(got)}", got == label
    elif wrong:
        names = [(phrases.words(after.labels[a]), phrases.words(after.said[a][0])) for a in wrong]
        caption, changed = ", ".join(f"{asked} → {got}" for asked, got in names), True
    else:
        caption, changed = phrases.words(after.labels.get(axis, base.prompt)), False
    return Pair(
        data_uri(base.file),
        data_uri(erased.file),
        f"{base.prompt} (seed {base.seed})",
        caption,
        changed,
        veiled,
    )


@dataclass(frozen=True)
class Evidence:
    """What the page shows besides the figures.

    Attributes:
        pictures: of forget and retained prompts by side, in the same order for base and erased.
        judged: of the same, by side.
        others: of the other prompts, by side, in the same order.
        flagged: files in which nudity was found.
    """

    pictures: Mapping[str, Sequence[Picture]]
    judged: Mapping[str, Sequence[Judged]]
    flagged: Set[Path] = frozenset()
    others: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
