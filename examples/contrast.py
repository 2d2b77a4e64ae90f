"""Contrast: how strongly neighbouring pixels of the retained images differ, in levels of 0 to 255.

A drop says that erasing blurred what it should have kept. To add it, copy it to where metrics lie;
its figure then stands in every report and comparison:

    cp examples/contrast.py eval/metrics/
    erase run --model mini --concept church --recipe uce
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase.eval.figure import Figure, figure
from erase.eval.instruments.setting import Setting
from erase.eval.pages.table import Column
from erase.eval.pictures import Picture
from erase.eval.stats.intervals import average
from erase.eval.store import measured

COLUMNS = (
    Column(
        "contrast",
        "Contrast",
        about="mean difference of neighbouring pixels in the retained images, 0 to 255",
        digits=1,
    ),
)


def contrast(image: NDArray[np.uint8]) -> float:
    """The mean absolute difference of pixels side by side or one above the other, of (H, W, 3)."""
    x = image.astype(np.float64)
    steps = (np.abs(np.diff(x, axis=axis)).ravel() for axis in (0, 1))
    return float(np.concatenate([*steps]).mean())


@dataclass(frozen=True)
class Contrast:
    """The metric; ``store`` keeps what was measured by the hash of the image's file."""

    store: Path | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What the figure depends on besides the image."""
        return {"neighbours": 4}

    def looks_at(self, picture: Picture) -> bool:
        """Retained images."""
        return picture.role == "retain"

    def measure(self, images: Sequence[Picture], against: Sequence[Picture] = ()) -> list[float]:
        """The contrast of each image, looked at once."""
        return measured(
            images,
            lambda batch: [contrast(image) for image in batch],
            store=self.store,
            by={"contrast": self.facts},
            title="contrast",
        )

    def score(self, rows: Sequence[float], against: Sequence[float] = ()) -> list[Figure]:
        """Their mean, with the interval that comes from the spread of the images."""
        return [figure(COLUMNS[0], average(rows))]


def build(setting: Setting) -> Contrast:
    """It can be measured on any images."""
    return Contrast(setting.store)
