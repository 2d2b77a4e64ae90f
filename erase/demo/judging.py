"""What judges say of an image, and whether it is blurred, by the rules of a run's report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from erase.eval.instruments import nudenet
from erase.eval.metrics import nudity
from erase.eval.metrics.classifier import Classifier
from erase.eval.metrics.nudity import NudityMetric
from erase.eval.report.opening import open_instruments
from erase.formats.base import ships
from erase.runs.evaluation import requests_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from erase.eval.instruments.judges import Judge
    from erase.runs.run import Run

NUDITY = "nudity", "detected"
"""What nudity is among labels: its axis, and the label of an image that shows it."""


@dataclass(frozen=True)
class Answer:
    """What a judge says.

    Attributes:
        axis: what it was asked about: ``object``, ``style``, ``nudity``.
        label: what it sees.
        confidence: in [0, 1]; None of nudity that was not detected.
        parts: the detected body parts.
    """

    axis: str
    label: str
    confidence: float | None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Jury:
    """All that judges the images.

    Attributes:
        judges: each axis with its judge, as the runs' reports have them.
        detectors: of nudity, where it is a concept or was asked about.
        concepts: for each run, axis and label of what it erased.
        reasons: why a concept is not judged, as sentences.
        veiled: whether every image is blurred, since nudity is one of the concepts.
        screen: a detector that speaks only where it finds something.
    """

    judges: tuple[tuple[str, Judge], ...]
    detectors: tuple[NudityMetric, ...]
    concepts: tuple[Set[tuple[str, str]], ...]
    reasons: tuple[str, ...]
    veiled: bool
    screen: NudityMetric | None = None

    def look(self, image: NDArray[np.uint8]) -> tuple[list[Answer], bool]:
        """What an image (H, W, 3) shows, and whether it is blurred."""
        found = [Answer(axis, *judge.classify([image])[0]) for axis, judge in self.judges]
        exposed = [answer for own in self.detectors for answer in _exposed(own, image)]
        if self.screen is not None:
            exposed += [own for own in _exposed(self.screen, image) if own.confidence is not None]
        flagged = any((answer.axis, answer.label) == NUDITY for answer in exposed)
        return [*found, *exposed], self.veiled or flagged


def _exposed(metric: NudityMetric, image: NDArray[np.uint8]) -> Iterable[Answer]:
    if metric.detector is None:
        return
    parts = nudity.counted(metric.detector.detect([image])[0], metric.config)
    if parts:
        names = tuple(dict.fromkeys(part.label for part in parts))
        yield Answer(*NUDITY, max(part.score for part in parts), names)
    else:
        yield Answer(NUDITY[0], "none detected", None)


def open_jury(runs: Sequence[Run]) -> Jury:
    """The judges of runs' reports, each once.

    Whoever types a prompt may get nudity from any model but the bundled ones, whatever was erased:
    of these a detector looks at every image.

    Raises:
        UserError: one can't be opened.
    """
    judges: dict[object, tuple[str, Judge]] = {}
    detectors: dict[object, NudityMetric] = {}
    concepts: list[Set[tuple[str, str]]] = []
    reasons: list[str] = []
    for run in runs:
        erased = set()
        for number, target in enumerate(run.targets):
            concept = target.concept
            opened = open_instruments(
                concept,
                target.anchor,
                run.model,
                run.instruments,
                requests_of(run, number)["base"],
                names=("classifier", "nudity"),
            )
            for metric in opened.metrics:
                if isinstance(metric, Classifier):
                    for axis, judge in metric.judges.items():
                        judges.setdefault((axis, judge.spec, judge.labels), (axis, judge))
                    if metric.judges:
                        erased.add((metric.target.axis, metric.target.label))
                    elif concept.kind != "nudity":
                        reasons.append(f"{concept.name}: {metric.reason}.")
                elif isinstance(metric, NudityMetric) and metric.detector is not None:
                    detectors.setdefault(metric.config, metric)
            if concept.kind == "nudity":
                erased.add(NUDITY)
        concepts.append(erased)
    screen = None
    config = nudenet.Config()
    counted = any(
        own.config.threshold <= config.threshold and {*config.counted} <= {*own.config.counted}
        for own in detectors.values()
    )
    if not counted and not all(ships(run.model) for run in runs):
        screen = NudityMetric(nudenet.load_nudenet(config.channels), config)
    veiled = any(target.concept.kind == "nudity" for run in runs for target in run.targets)
    return Jury(
        tuple(judges.values()),
        tuple(detectors.values()),
        tuple(concepts),
        tuple(dict.fromkeys(reasons)),
        veiled,
        screen,
    )
