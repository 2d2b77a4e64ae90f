"""Binding: whether object and style are kept or lost together in the retained images.

    binding   P(A ∧ B) - P(A)·P(B) = p₁₁·p₀₀ - p₁₀·p₀₁

A: the label on the concept's axis is recognised, B: those on all other axes are; p₁₁ is the share
of retained images in which both are, p₁₀ that in which A alone is. Above 0, both fail in the same
images, which are broken as a whole; below 0, one is kept at the other's expense. Where one of them
never fails it is 0, whatever the other does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erase.eval.figure import Figure, figure, from_list
from erase.eval.instruments.setting import Setting
from erase.eval.metrics.classifier import Classifier, build_bundled
from erase.eval.pages.table import Column
from erase.eval.pictures import Picture
from erase.eval.recognition import Judged
from erase.eval.stats.intervals import CONFIDENCE, RESAMPLES, Average, share

COLUMNS = (
    Column(
        "binding",
        "binding",
        "points",
        None,
        "Binding",
        "retained images right in {axis} and {others} minus what two unrelated shares would give: "
        "above 0, whole images break; below 0, one is kept at the other’s expense; 0 also where "
        "one of them never fails",
    ),
    Column(
        "rest_kept",
        "rest kept",
        "%",
        "up",
        "Rest of the prompt",
        "forget images whose {others} is recognised",
    ),
)
COMPARED = tuple(map(from_list, COLUMNS))
AGAINST = "base"
NEEDS = {"concept": "Binding needs --concept, which says what counts as erased."}
RANK = 15
NO_OTHERS = "not measured: no second axis"
NONE = "not measured: no retained images with a label on two axes"


@dataclass(frozen=True)
class Binding:
    """The metric.

    Attributes:
        classifier: the judges, and what they look for.
    """

    classifier: Classifier

    @property
    def facts(self) -> dict[str, Any]:
        """What was looked for, by which judges, and how the interval is drawn."""
        drawn = {"resamples": RESAMPLES, "seed": 0}
        return {**self.classifier.facts, **drawn} if self.classifier.judges else {}

    def looks_at(self, picture: Picture) -> bool:
        """Forget and retained images."""
        return self.classifier.looks_at(picture)

    def measure(self, images: Sequence[Picture], against: Sequence[Picture] = ()) -> list[Judged]:
        """What the judges see; taken from the store, where ``classifier`` has it from."""
        return self.classifier.measure(images)

    def score(self, rows: Sequence[Judged], against: Sequence[Judged] = ()) -> list[Figure]:
        """Binding of the retained images, and what is kept of the prompt in the forget images."""
        axis, judges = self.classifier.target.axis, self.classifier.judges
        others = [a for a in judges if a != axis and any(a in row.labels for row in rows)]
        if not others:
            reason = NO_OTHERS if judges else self.classifier.reason
            return [figure(column, None, reason=reason) for column in COLUMNS]
        asked = [row for row in rows if all(a in row.labels for a in others)]
        pairs = [
            (row.right(axis), all(map(row.right, others)))
            for row in asked
            if row.role == "retain" and axis in row.labels
        ]
        kept = [all(map(row.right, others)) for row in asked if row.role == "forget"]
        missing = None if kept else "not measured: no forget images"
        return [
            figure(COLUMNS[0], binding(pairs)),
            figure(COLUMNS[1], share(sum(kept), len(kept)), reason=missing),
        ]


def binding(pairs: Sequence[tuple[bool, bool]], seed: int = 0) -> Average:
    """p₁₁·p₀₀ - p₁₀·p₀₁ with its 95 % interval, a fraction in [-1/4, 1/4].

    The interval is a Bayesian bootstrap over the images (Rubin 1981, Annals of Statistics 9:130)
    with half an image more in each of the four cells (Jeffreys' prior). Resampling the images as
    they are would claim certainty wherever a cell is empty: of 100 images that are all right, no
    resample has a wrong one.

    Args:
        pairs: for each image, whether A and whether B.
        seed: of the resampling.
    """
    if not pairs:
        return Average(reason=NONE)
    cells = [sum(pair == cell for pair in pairs) for cell in CELLS]
    value = float(_binding(np.array(cells) / len(pairs)))
    drawn = np.random.default_rng(seed).dirichlet(np.array(cells) + 0.5, RESAMPLES)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(_binding(drawn), [tail, 100 - tail])
    return Average(value, len(pairs), min(float(low), value), max(float(high), value))


CELLS = ((True, True), (True, False), (False, True), (False, False))


def _binding(p: Any) -> Any:
    """Of shares of the four cells, on the last axis."""
    return p[..., 0] * p[..., 3] - p[..., 1] * p[..., 2]


def build(setting: Setting) -> Binding:
    """Opens the bundled judges.

    Raises:
        UserError: a judge that can't be opened or lacks a class of the images.
    """
    return Binding(build_bundled(setting))
