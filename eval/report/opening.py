"""All that a run's images will be measured with, opened before there are any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.features import Extractor
from erase.eval.instruments.judges import Judge
from erase.eval.instruments.nudenet import Detector
from erase.eval.instruments.perceptual import Perceptual
from erase.eval.instruments.setting import Setting
from erase.eval.metrics.classifier import build as build_classifier
from erase.eval.metrics.clip_score import build as build_clip_score
from erase.eval.metrics.fidelity import build as build_fidelity
from erase.eval.metrics.lpips import build as build_lpips
from erase.eval.metrics.nudity import build as build_nudity
from erase.eval.pictures import Picture
from erase.prompts.groups import GROUPS

if TYPE_CHECKING:
    from erase.eval.instruments.clip import Clip
    from erase.images.request import Request
    from erase.prompts.concept import Concept

TRIED = 8
"""Images that an instrument is timed with."""


@dataclass(frozen=True)
class Opened:
    """The instruments of a run; None and {} stand for what is not measured, or not fetched yet."""

    judges: Mapping[str, Judge]
    clip: Clip | None
    extractor: Extractor | None
    distance: Perceptual | None
    detector: Detector | None

    def seconds(self, side: int) -> float:
        """What measuring an image takes here, tried on a few.

        Args:
            side: of the images, px.
        """
        noise = np.random.default_rng(0).integers(0, 256, (TRIED, side, side, 3), dtype=np.uint8)
        images = list(noise)
        uses: list[Callable[[], object]] = []
        # A judge that was not fetched has no facts, and nothing to compute with.
        for judge in {id(j): j for j in self.judges.values() if j.facts}.values():
            uses.append(lambda judge=judge: judge.classify(images))  # type: ignore[misc]
        if clip := self.clip:
            uses.append(lambda: _embed(clip, images))
        if extractor := self.extractor:
            uses.append(lambda: extractor(images))
        if distance := self.distance:
            uses.append(lambda: distance(images, images))
        began = time.perf_counter()
        for use in uses:
            use()
        return (time.perf_counter() - began) / TRIED


def _embed(clip: Clip, images: Iterable[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> None:
    import torch

    with torch.inference_mode():
        clip.model.encode_image(torch.stack([clip.preprocess(Image.fromarray(i)) for i in images]))


def open_instruments(
    concept: Concept,
    anchor: Concept,
    model: str,
    instruments: Instruments,
    rows: Iterable[Request],
    fetch: bool = True,
) -> Opened:
    """Opens what ``evaluate`` will, on the CPU, by the code that it uses.

    Args:
        concept, anchor: what is erased and what should stand in its place.
        model: what the user called the base model.
        instruments: as the user named them.
        rows: what the base model will be asked for.
        fetch: whether networks may be downloaded.

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
    return Opened(
        build_classifier(setting).judges,
        build_clip_score(setting).clip,
        build_fidelity(setting).extractor,
        build_lpips(setting).distance,
        build_nudity(setting).detector,
    )
