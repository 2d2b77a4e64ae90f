"""``report.json`` of a classifier, typed. ``python -m erase.eval.classifiers.report.schema`` prints
its JSON schema, which the package carries as ``report.schema.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from erase.eval.classifiers.confidence import Confidence
from erase.eval.figure import Figure
from erase.eval.stats.repeated import Repeated

SCHEMA = 1
"""Number of the layout of ``report.json``; grows when a field changes its meaning or goes."""
Conclusion = Literal[
    "within reach of the floor", "beyond the floor", "barely forgotten", "nothing concluded"
]


@dataclass(frozen=True)
class Facts:
    """What a report is told about how its models came to be; what is empty is not printed.

    Attributes:
        run: ``model``, ``data``, ``forget`` as they were named, ``recipe``, ``method``, ``seed``.
        recipe: its settings, flat.
        split: ``seed`` and ``sha256``.
        device: that the models were made on.
        made_with: versions of the packages that made them.
        commands: as they were typed.
        seconds, peak_memory_mb: by stage.
    """

    run: Mapping[str, Any]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    device: str | None = None
    made_with: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_memory_mb: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Four:
    """UA, RA, TA and MIA, fractions; for differences in [-1, 1].

    ``n`` counts samples, and for retrained models and what is measured against them, models.
    """

    ua: Repeated
    ra: Repeated
    ta: Repeated
    mia: Repeated


@dataclass(frozen=True)
class Summary:
    """The figures that others may rely on.

    Attributes:
        base, unlearned: with intervals over samples.
        retrain: means over the retrained models, with intervals over these.
        gap: distance of the unlearned model's four figures from the retrained models' means, on
            average; its intervals, and those below, are over the retrained models.
        mean_gap: its distance from a retrained model, on average over these.
        floor: the distance of two retrained models; what ``mean_gap`` would be of exact unlearning.
        base_gap, base_mean_gap: the same two of the untouched model.
        distances, base_distances: the four figures minus the retrained models' means.
        floors: distances of two retrained models.
    """

    base: Four
    unlearned: Four
    retrain: Four
    gap: Repeated
    mean_gap: Repeated
    floor: Repeated
    base_gap: Repeated
    base_mean_gap: Repeated
    distances: Four
    base_distances: Four
    floors: Four


@dataclass(frozen=True)
class Forgotten:
    """What was to be forgotten.

    Attributes:
        spec: as it was named.
        kind: ``random``, ``class``, ``cell``, ``indices`` or ``flipped``.
        label: name of the class that is forgotten whole.
        samples, retained: how many there are of each.
    """

    spec: str
    kind: str
    label: str | None
    samples: int
    retained: int


@dataclass(frozen=True)
class Provenance:
    """Everything that the figures depend on, see ``Facts``.

    Attributes:
        created: UTC, ISO 8601.
        versions: of the packages that measured.
        code: commit of this package; None where it is not known.
        interval: coverage of every interval.
        seed: of what the figures draw.
    """

    facts: Facts
    created: str
    versions: Mapping[str, str]
    code: str | None
    interval: float
    seed: int


@dataclass(frozen=True)
class Report:
    """``report.json``.

    Attributes:
        schema: number of the layout.
        kind: ``classifier``, which tells it from reports of diffusion models.
        run: see ``Facts``.
        verdict: the outcome in words.
        conclusion: the same as a key.
        forgotten: what was to be forgotten.
        retrained: how many models were retrained.
        summary: the main figures.
        figures: every figure of every metric: of ``base``, ``unlearned``, each ``retrain-SEED``,
            and ``retrain``, the mean of these.
        confidence: by side and part; see ``Confidence``.
        provenance: what the figures depend on.
    """

    schema: int
    kind: Literal["classifier"]
    run: Mapping[str, Any]
    verdict: tuple[str, ...]
    conclusion: Conclusion
    forgotten: Forgotten
    retrained: int
    summary: Summary
    figures: tuple[Figure, ...]
    confidence: Mapping[str, Mapping[str, Confidence]]
    provenance: Provenance


def json_schema() -> str:
    """The JSON schema of ``report.json`` as text; needs pydantic."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(Report).json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "report.json"}
    return json.dumps({**schema, **head}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
