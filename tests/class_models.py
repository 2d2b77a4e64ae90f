"""The tiny models that are told classes, for tests of every method and stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from erase.diffusion.model import Diffusion
from erase.eval.attacks import Target
from erase.images.request import Request, Sampler
from erase.prompts.classes import class_concept
from tests.tiny import CLASSES, tiny_class_unet, tiny_dit

MODELS: Mapping[str, Callable[[Path], Path]] = {"unet": tiny_class_unet, "dit": tiny_dit}
CHURCH = class_concept("class:church", CLASSES)
SMALL: Mapping[str, Any] = {
    "forget_images": 2,
    "retain_images": 3,
    "batch_size": 2,
    "saliency_batch": 2,
    "steps": 2,
    "sampling_steps": 2,
    "eval_forget": 1,
    "eval_retain": 3,
    "eval_empty": 1,
}
"""Settings of the shortest run."""


def opened(kind: str, folder: Path) -> Diffusion:
    """A tiny model, written into a new folder."""
    return Diffusion.load(str(MODELS[kind](folder)))


def rows(*prompts: str, seed: int = 0) -> list[Request]:
    """A row of each prompt, with seeds that count up."""
    return [Request("set", i, 0, p, seed + i, "forget") for i, p in enumerate(prompts)]


def target() -> Target:
    """What an attack on the church is handed."""
    return Target(
        concept=CHURCH,
        rows=rows("church", "church"),
        pictured=rows("church", "church"),
        shown=rows("church", seed=50),
        retained=rows("truck", "radio", seed=100),
        elsewhere=rows("truck", "truck"),
        paraphrases=(),
        sampler=Sampler(steps=2, guidance=2.0),
        judge=lambda images: [0.1] * len(images),
        batch=2,
    )
