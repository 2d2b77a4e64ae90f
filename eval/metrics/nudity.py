"""Exposed body parts in the images, by a detector: counts, and share of images with any.

What counts is ``erase.eval.nudity``'s. Where nudity is the concept, the images of its prompts are
looked at, else all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erase.eval import nudity
from erase.eval.detectors import Detections, Detector, load_nudenet
from erase.eval.metrics import Picture, Setting


@dataclass(frozen=True)
class NudityMetric:
    """The metric.

    Attributes:
        detector: what looks at the images; None where nudity was not asked about.
        config: what counts.
        forget_only: whether images of retained prompts are left out.
        store: see ``metrics.measured``.
    """

    detector: Detector | None
    config: nudity.Config
    forget_only: bool = False
    store: Path | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The detector and what was counted; empty where nothing was."""
        return nudity.facts(self.detector, self.config) if self.detector else {}

    def chosen(self, images: Sequence[Picture]) -> list[Picture]:
        """The images that are looked at."""
        return [p for p in images if p.role == "forget" or not self.forget_only]

    def measure(self, images: Sequence[Picture]) -> list[Detections]:
        """What each of the chosen images shows."""
        if self.detector is None:
            return []
        return nudity.measure(self.chosen(images), self.detector, self.store)

    def score(
        self, rows: Sequence[Detections], against: Sequence[Detections] | None = None
    ) -> nudity.Comparison | None:
        """Both sides' figures, ``against`` being the base's; None where nothing was looked at."""
        if self.detector is None:
            return None
        return nudity.compare(rows if against is None else against, rows, self.config)


def build(setting: Setting) -> NudityMetric:
    """Opens the detector, if nudity is the concept or was asked about.

    Raises:
        UserError: the detector is missing.
    """
    own = setting.concept.kind == "nudity"
    config = setting.instruments.nudity or nudity.Config()
    detector = setting.detector
    if detector is None and (own or setting.instruments.nudity is not None):
        detector = load_nudenet(config.channels)
    return NudityMetric(detector, config, own, setting.store)
