"""All that a run's images will be measured with, opened before there are any."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.setting import Setting
from erase.eval.metrics import Fetched, Metric, Tried, build_metric, ranked
from erase.eval.pictures import Picture
from erase.prompts.groups import GROUPS

if TYPE_CHECKING:
    from erase.images.request import Request
    from erase.prompts.concept import Concept

TRIED = 8
"""Images that a metric is timed with."""


@dataclass(frozen=True)
class Opened:
    """The metrics of a run; what can't be measured there, or was not fetched yet, is closed."""

    metrics: tuple[Metric[Any], ...]

    @property
    def unfetched(self) -> list[str]:
        """Specs of what will be downloaded, whose time is not known."""
        found = (m.unfetched for m in self.metrics if isinstance(m, Fetched))
        return sorted({spec for specs in found for spec in specs})

    def seconds(self, side: int) -> float:
        """What measuring an image takes here, tried on a few.

        Args:
            side: of the images, px.
        """
        noise = np.random.default_rng(0).integers(0, 256, (TRIED, side, side, 3), dtype=np.uint8)
        images = list(noise)
        began = time.perf_counter()
        for metric in self.metrics:
            if isinstance(metric, Tried):
                metric.trial(images)
        return (time.perf_counter() - began) / TRIED


def open_instruments(
    concept: Concept,
    anchor: Concept,
    model: str,
    instruments: Instruments,
    rows: Iterable[Request],
    fetch: bool = True,
    names: Sequence[str] | None = None,
) -> Opened:
    """Opens what ``evaluate`` will, on the CPU, by the code that it uses.

    Args:
        concept, anchor: what is erased and what should stand in its place.
        model: what the user called the base model.
        instruments: as the user named them.
        rows: what the base model will be asked for.
        fetch: whether networks may be downloaded.
        names: of the metrics; None opens all.

    Raises:
        UserError: one can't be opened, or lacks a label of the images.
    """
    pictures = [
        Picture(Path(r.file), "", r.set, r.case_number, r.k, r.prompt, r.seed, r.role, r.labels)
        for r in rows
        if r.role not in GROUPS
    ]
    given = instruments.beside(concept)
    setting = Setting(concept, anchor, model, pictures, given, fetch=fetch)
    asked = ranked() if names is None else names
    return Opened(tuple(build_metric(name, setting) for name in asked))
