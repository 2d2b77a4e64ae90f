"""``report.html``: one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from erase.eval.classifiers import plots
from erase.eval.classifiers.gap import FOUR
from erase.eval.classifiers.report import tables, words
from erase.eval.figure import cell
from erase.eval.pages import phrases
from erase.eval.pages.html import setting_text, template
from erase.eval.pages.table import Column, Row
from erase.runtime.words import counted

Report = Mapping[str, Any]
PARTS = {"forget": "samples to forget", "retain": "retained samples", "test": "test samples"}
CLASSES = 10
"""Most classes of the plot of where the samples went."""


def render(report: Report) -> str:
    """The page as HTML; of the content of ``report.json`` alone."""
    facts = report["provenance"]["facts"]
    html: str = template("classifier.html.j2").render(
        r=report,
        p=report["provenance"],
        facts_told=facts,
        title=tables.title(report),
        tone=words.TONES[report["conclusion"]],
        gap_columns=tables.GAPS,
        gaps=tables.gaps(report),
        distances=Markup(distances(report)) if report["retrained"] else None,
        figure_columns=tables.figure_columns(report),
        figures=tables.figures(report),
        unmeasured=tables.unmeasured(report),
        confidence=Markup(plots.confidence(report["confidence"], PARTS)),
        counts=counts(report),
        class_columns=CLASS_COLUMNS,
        classes=classes(report),
        geometry=geometry(report),
        neighbour_columns=NEIGHBOUR_COLUMNS,
        neighbours=neighbours(report),
        relearning_columns=STEP_COLUMNS,
        relearning=relearning(report),
        curve=curve(report),
        relearned_of=_looked_at(report, "relearned"),
        went_of=_looked_at(report, "became"),
        told=told(report),
    )
    return html


def distances(report: Report, name: str = "distances") -> str:
    """The four distances and their average as bars, with the floors."""
    found = report["summary"]
    series = {
        side: [*(found[f"{prefix}distances"][key] for key in FOUR), found[f"{prefix}mean_gap"]]
        for side, prefix in (("base", "base_"), ("unlearned", ""))
    }
    labels = [*(key.upper() for key in FOUR), "average"]
    floors = [*(found["floors"][key] for key in FOUR), found["floor"]]
    return plots.bars(labels, series, floors, name=name, unit="distance from Retrain, points")


def counts(report: Report) -> str:
    """How many samples the distributions are of."""
    own = report["confidence"]["unlearned"]
    text = phrases.listed([f"{own[part]['n']:,} {PARTS[part]}" for part in PARTS if part in own])
    return f"{text} of each model"


SIDE_COLUMNS = [Column(side, title) for side, title in tables.TITLES.items()]
CLASS_COLUMNS = [Column("class", "taken for"), *SIDE_COLUMNS]
NEIGHBOUR_COLUMNS = [Column("neighbours", "right of the test samples"), *SIDE_COLUMNS]
STEP_COLUMNS = [Column("steps", "right after"), *SIDE_COLUMNS]


def _went(report: Report) -> dict[str, dict[str, Mapping[str, Any]]]:
    """The classes that forgotten samples are taken for, the retrained models' first one first."""
    found = tables.by_group(report, "became")

    def most(name: str) -> tuple[float, ...]:
        return tuple(
            -found[name][side]["value"] if side in found[name] else 0.0
            for side in ("retrain", "unlearned", "base")
        )

    return {name: found[name] for name in sorted(found, key=most)[:CLASSES]}


def classes(report: Report) -> list[Row]:
    """The table of where the samples of a forgotten class went."""
    return [_row("class", name, sides) for name, sides in _went(report).items()]


def geometry(report: Report, name: str = "geometry") -> Markup | None:
    """The same as bars; None where no class was forgotten."""
    went = _went(report)
    if not went:
        return None
    nothing = {"value": None, "low": None, "high": None}
    shown = [side for side in plots.SIDES if any(side in sides for sides in went.values())]
    series = {side: [sides.get(side, nothing) for sides in went.values()] for side in shown}
    return Markup(plots.bars(list(went), series, name=name, unit="samples to forget, %"))


def neighbours(report: Report) -> list[Row]:
    """The table of what is nearest to the forgotten samples."""
    found = tables.by_group(report, "near").items()
    return [_row("neighbours", name, sides) for name, sides in found]


def relearning(report: Report) -> list[Row]:
    """The table of the relearning curve."""
    found = tables.by_group(report, "relearned").items()
    return [_row("steps", counted(int(number), "step"), sides) for number, sides in found]


def curve(report: Report, name: str = "relearning") -> Markup | None:
    """The relearning curve; None where the models themselves were not at hand."""
    points = tables.by_group(report, "relearned")
    return Markup(plots.curve(points, name)) if points else None


def _looked_at(report: Report, key: str) -> str:
    """How many samples the figures of a key are of."""
    shown = tables.by_group(report, key)
    n = next((sides["unlearned"]["n"] for sides in shown.values() if "unlearned" in sides), 0)
    return f"n = {n:,} samples to forget, and {counted(report['retrained'], 'retrained model')}"


def _row(key: str, name: str, sides: Mapping[str, Mapping[str, Any]]) -> Row:
    return {key: name, **{side: cell(row, sign=True) for side, row in sides.items()}}


def told(report: Report) -> list[tuple[str, Sequence[tuple[str, str]]]]:
    """The provenance in titled groups of names and values."""
    made = report["provenance"]
    facts = made["facts"]
    times = [
        (stage, f"{seconds:.1f} s{_peak(facts['peak_memory_mb'].get(stage))}")
        for stage, seconds in facts["seconds"].items()
    ]
    groups = [
        ("Recipe", [(k, setting_text(v)) for k, v in facts["recipe"].items()]),
        ("Split", [(k, str(v)[:16]) for k, v in facts["split"].items()]),
        ("Made with", [("device", facts["device"] or "not known"), *facts["made_with"].items()]),
        (
            "Measured with",
            [("commit", made["code"] or "not known"), *made["versions"].items()],
        ),
        ("Times", [*times, ("evaluated", made["created"])]),
    ]
    return [(name, rows) for name, rows in groups if rows]


def _peak(mebibytes: int | None) -> str:
    return f", {mebibytes} MiB at most" if mebibytes else ""
