"""Measures a base, an unlearned and the retrained models, and writes what was found."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from erase.eval.classifiers import gap
from erase.eval.classifiers.confidence import confidences
from erase.eval.classifiers.evidence import Case, Side
from erase.eval.classifiers.metrics import bounds, measure, paired
from erase.eval.classifiers.metrics.membership import CHANCE
from erase.eval.classifiers.report import page, tables, words
from erase.eval.classifiers.report.schema import (
    SCHEMA,
    Conclusion,
    Facts,
    Forgotten,
    Four,
    Provenance,
    Report,
    Summary,
)
from erase.eval.figure import Figure
from erase.eval.pages import phrases
from erase.eval.stats.intervals import CONFIDENCE
from erase.eval.stats.repeated import Repeated, of_pairs, repeated, within
from erase.runtime.commit import commit
from erase.runtime.files import write_json, write_text
from erase.runtime.machine import versions
from erase.runtime.places import without_places
from erase.runtime.words import counted

RETRAIN = "retrain"
"""The side of the retrained models' means."""
MEASURING = ("python", "erase-diffusion", "torch", "numpy")
UNBOUNDED = (-math.inf, math.inf)


def evaluate(
    case: Case,
    base: Side,
    unlearned: Side,
    retrained: Sequence[Side],
    facts: Facts,
    measured: Callable[[Case, Side, Sequence[Side]], list[Figure]] = measure,
) -> dict[str, Any]:
    """The content of ``report.json``.

    Args:
        case: what is asked of every model.
        base: trained on all samples.
        unlearned: made from it.
        retrained: trained without the samples to forget, one for each seed; may be empty, and
            intervals need three.
        facts: how they came to be.
        measured: as ``metrics.measure``.
    """
    figures = [*measured(case, base, retrained), *measured(case, unlearned, retrained)]
    each = [measured(case, one, [r for r in retrained if r is not one]) for one in retrained]
    figures += [row for rows in each for row in rows] + merged(each)
    found = summary(figures, [one.name for one in retrained])
    made = Report(
        schema=SCHEMA,
        kind="classifier",
        run=facts.run,
        verdict=(),
        conclusion=conclude(found),
        forgotten=_forgotten(case, facts),
        retrained=len(retrained),
        summary=found,
        figures=tuple(figures),
        confidence={
            name: confidences(case, sides)
            for name, sides in (("base", [base]), ("unlearned", [unlearned]), (RETRAIN, retrained))
        },
        provenance=Provenance(
            facts=facts,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=_versions(),
            code=commit(),
            interval=CONFIDENCE,
            seed=case.seed,
        ),
    )
    report: dict[str, Any] = json.loads(json.dumps(asdict(made)))
    report = without_places(report, report["run"])
    return {**report, "verdict": words.verdict(report)}


def write(report: Mapping[str, Any], folder: Path) -> None:
    """Writes ``report.{md,csv,html,json}``, the JSON last: where it is, the others are."""
    write_text(folder / "report.md", tables.markdown(report))
    write_text(folder / "report.csv", tables.csv(report))
    write_text(folder / "report.html", page.render(report))
    write_json(folder / "report.json", report)


def _versions() -> dict[str, str]:
    """Of the packages that these figures depend on."""
    known = {name: found for name, found in versions().items() if name in MEASURING}
    return {**known, **{name: version(name) for name in ("scikit-learn", "scipy")}}


def merged(each: Sequence[Sequence[Figure]]) -> list[Figure]:
    """The means of the models' figures over the models, in the order of the first's."""
    found: dict[tuple[str, str, str], list[Figure]] = {}
    for row in (row for rows in each for row in rows):
        found.setdefault((row.metric, row.key, row.group), []).append(row)
    ends, pairs = bounds(), paired()
    return [
        _merged(rows, ends.get(rows[0].key, UNBOUNDED), rows[0].key in pairs)
        for rows in found.values()
    ]


def _merged(rows: Sequence[Figure], ends: tuple[float, float], pairs: bool) -> Figure:
    missing = next((row for row in rows if row.value is None), None)
    if missing is not None:
        return replace(missing, side=RETRAIN)
    of = of_pairs if pairs else repeated
    mean = within(of([row.value for row in rows if row.value is not None], gap.MODEL), *ends)
    note = mean.reason or (phrases.NO_SPREAD if mean.low == mean.high else "")
    if doubted := [row.note for row in rows if row.note.startswith(CHANCE)]:
        note = f"{CHANCE} in {len(doubted)} of {counted(len(rows), gap.MODEL)}"
    return replace(
        rows[0],
        value=mean.value,
        n=mean.n,
        low=mean.low,
        high=mean.high,
        note=note,
        detail="retrained models",
        side=RETRAIN,
    )


def summary(figures: Sequence[Figure], retrained: Sequence[str]) -> Summary:
    """The main figures.

    Args:
        figures: of all sides.
        retrained: sides of the retrained models.
    """
    rows = {(row.side, row.key): row for row in figures if not row.group}
    models = {side: _values(rows, side) for side in ("base", "unlearned", *retrained)}
    missing = next(
        (
            f"{row.title} was not measured: {row.reason}"
            for (_, key), row in rows.items()
            if key in gap.FOUR and row.value is None
        ),
        None,
    )

    def against(of: Any, side: str | None = None) -> Repeated:
        if missing is not None:
            return Repeated(reason=missing)
        others = [models[name] for name in retrained]
        found: Repeated = of(others) if side is None else of(models[side], others)
        return found

    def each(side: str) -> Four:
        return Four(
            **{
                key: against(lambda one, others, key=key: gap.distances(one, others)[key], side)
                for key in gap.FOUR
            }
        )

    floors = {key: against(lambda others, key=key: gap.floor(others, (key,))) for key in gap.FOUR}
    return Summary(
        base=_four(rows, "base"),
        unlearned=_four(rows, "unlearned"),
        retrain=_four(rows, RETRAIN),
        gap=against(gap.gap_of_means, "unlearned"),
        mean_gap=against(gap.mean_gap, "unlearned"),
        floor=against(gap.floor),
        base_gap=against(gap.gap_of_means, "base"),
        base_mean_gap=against(gap.mean_gap, "base"),
        distances=each("unlearned"),
        base_distances=each("base"),
        floors=Four(**floors),
    )


def _values(rows: Mapping[tuple[str, str], Figure], side: str) -> dict[str, float]:
    """Those of the four that were measured."""
    values = {key: rows[side, key].value for key in gap.FOUR if (side, key) in rows}
    return {key: value for key, value in values.items() if value is not None}


def _four(rows: Mapping[tuple[str, str], Figure], side: str) -> Four:
    found = {}
    for key in gap.FOUR:
        row = rows.get((side, key))
        if row is None:
            found[key] = Repeated(reason=f"no {gap.MODEL}")
            continue
        reason = row.reason or (row.note if row.low is None else "") or None
        found[key] = Repeated(row.value, row.n, row.low, row.high, reason)
    return Four(**found)


def conclude(found: Summary) -> Conclusion:
    """What the gap says; nothing where it has no interval."""
    ua = (found.unlearned.ua.value, found.base.ua.value, found.retrain.ua.value)
    away = found.distances.ua
    apart = away.low is None or away.high is None or not away.low <= 0 <= away.high
    nearer = None not in ua and gap.barely_forgotten(*(one for one in ua if one is not None))
    if nearer and apart:
        return "barely forgotten"
    if found.mean_gap.low is None or found.floor.high is None:
        return "nothing concluded"
    near = found.mean_gap.low <= found.floor.high
    return "within reach of the floor" if near else "beyond the floor"


def _forgotten(case: Case, facts: Facts) -> Forgotten:
    return Forgotten(
        spec=str(facts.run.get("forget", "")),
        kind=case.kind,
        label=None if case.forgotten is None else case.classes[case.forgotten],
        samples=len(case.labels["forget"]),
        retained=len(case.labels["retain"]),
    )
