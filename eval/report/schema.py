"""``report.json``, typed. ``python -m erase.eval.report.schema`` prints its JSON schema, which the
package carries as ``report.schema.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from erase.eval.figure import Figure
from erase.eval.metrics.clip_score import Fit
from erase.eval.metrics.fidelity import Moved
from erase.eval.metrics.nudity import Exposed
from erase.eval.pages.table import Panel
from erase.eval.recognition import PerClass, Side
from erase.eval.report.conclusion import Conclusion
from erase.eval.report.exact import Exact
from erase.eval.report.over_erasure import OverErasure

SCHEMA = 1
"""Number of the layout of ``report.json``; grows when a field changes its meaning or goes."""


@dataclass(frozen=True)
class Subject:
    """A concept or an anchor as the report names it."""

    name: str
    kind: str
    word: str
    axis: str | None
    label: str | None


@dataclass(frozen=True)
class Summary:
    """Headline figures before and after; ``reasons`` says why one was not measured."""

    base: Side
    erased: Side
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Layer:
    """How many of a parameter's weights the mask lets move."""

    name: str
    masked: int
    size: int


@dataclass(frozen=True)
class Step:
    """One optimisation step of ``train.jsonl``."""

    step: int
    loss: float
    forget: float | None
    retain: float | None


@dataclass(frozen=True)
class Provenance:
    """Everything that the figures depend on.

    Attributes:
        created: UTC, ISO 8601.
        model: the base: what the user called it, and its components' hashes.
        recipe: flat.
        image_seeds: by side, the smallest and the largest seed of an image.
        pairs: training prompts (c, c').
        own_images: by role, how many images of the user's own it was trained on, instead of the
            base's.
        device, made_with: where and with which versions the model and its images were made.
        versions: of the packages that measured.
        code: commit of this package; None where it is not known.
        commands: that made the run, as they were typed, files by their names.
        metrics: by metric, what its figures depend on: judges, hashes, preprocessing, seeds.
        confidence: of every interval.
        seconds: by stage.
        peak_memory_mb: by stage.
    """

    created: str
    model: Mapping[str, Any]
    recipe: Mapping[str, Any]
    image_seeds: Mapping[str, Sequence[int]]
    pairs: Sequence[Sequence[str]]
    own_images: Mapping[str, int]
    device: str | None
    made_with: Mapping[str, str]
    versions: Mapping[str, str]
    code: str | None
    commands: Sequence[str]
    metrics: Mapping[str, Mapping[str, Any]]
    confidence: float
    seconds: Mapping[str, float]
    peak_memory_mb: Mapping[str, int]


@dataclass(frozen=True)
class Report:
    """``report.json``.

    Attributes:
        schema: number of the layout.
        run: what was run: concept, anchor, model, method, recipe, seed.
        verdict: conclusion and figures in words.
        conclusion: whether the concept is erased, and whether damage was shown.
        concept, anchor: what was erased and what should stand in its place.
        target: axis, label and anchor's label that the judges looked for.
        axes: those that were judged.
        images: by side and role, how many.
        summary: headline figures.
        per_class: the concept first, then the retained labels by axis.
        became: by side, recognised label -> forget images.
        confusion: by side, on the concept's axis, true label -> recognised label -> images.
        fidelity: distances of the retained images to the second base set.
        clip_score: how well the retained images fit their prompts; None where not measured.
        nudity: exposed body parts; None where not asked about.
        over_erasure: what else moved: neighbours, everyday captions, the empty prompt.
        figures: every figure of every metric, by side and, where it has some, by group of prompts.
        panels: sections of the page that metrics have of their own.
        warnings: what to mind when reading the figures.
        mask: by layer; empty without a mask.
        training: the loss curve.
        recovery: what attacks on this model brought back, as in ``attack.json``; None where it was
            not attacked.
        exact: the gap to a model that never knew the concept; None where none was measured alike.
        provenance: what the figures depend on.
    """

    schema: int
    run: Mapping[str, Any]
    verdict: tuple[str, ...]
    conclusion: Conclusion
    concept: Subject
    anchor: Subject
    target: Mapping[str, str | None]
    axes: tuple[str, ...]
    images: Mapping[str, Mapping[str, int]]
    summary: Summary
    per_class: tuple[PerClass, ...]
    became: Mapping[str, Mapping[str, int]]
    confusion: Mapping[str, Mapping[str, Mapping[str, int]]]
    fidelity: tuple[Moved, ...]
    clip_score: Fit | None
    nudity: Exposed | None
    over_erasure: OverErasure
    figures: tuple[Figure, ...]
    panels: tuple[Panel, ...]
    warnings: tuple[str, ...]
    mask: tuple[Layer, ...]
    training: tuple[Step, ...]
    recovery: Mapping[str, Any] | None
    exact: Exact | None
    provenance: Provenance


def json_schema() -> str:
    """The JSON schema of ``report.json`` as text; needs pydantic."""
    from pydantic import TypeAdapter

    # By its own name: run as a module, the class would be __main__'s.

    schema = TypeAdapter(Report).json_schema()
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "report.json"}
    return json.dumps({**schema, **head}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
