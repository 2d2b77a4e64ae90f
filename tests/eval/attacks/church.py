"""A target on tiny pipelines, and a judge that goes by brightness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from erase.diffusion.model import Diffusion
from erase.eval.attacks import Target
from erase.images.request import Request, Sampler, Shot
from erase.prompts.concept import Concept

SAMPLER = Sampler("ddim", 3, 2.0)


def images_of(model: Diffusion, prompts: Sequence[str], seeds: Sequence[int], given: Target) -> Any:
    """uint8 (N, H, W, 3), a batch at a time, by the model's own sampling."""
    made = []
    for i in range(0, len(prompts), given.batch):
        part = slice(i, i + given.batch)
        shots = [Shot(p, s) for p, s in zip(prompts[part], seeds[part], strict=True)]
        made.append(model.sample(shots, given.sampler))
    return np.concatenate(made)


def rows(prompt: str, count: int = 2, first: int = 0) -> list[Request]:
    return [Request("set", n, 0, prompt, first + n, "forget") for n in range(count)]


def bright(images: Sequence[Any]) -> list[float]:
    return [float(np.mean(image)) / 255 for image in images]


def target(**more: Any) -> Target:
    given: dict[str, Any] = {
        "concept": Concept("mini/church", "object", "church"),
        "rows": rows("a drawing of a church"),
        "shown": rows("a church icon", 3, 100),
        "retained": rows("a truck icon", 3, 200),
        "elsewhere": rows("a drawing of a radio"),
        "paraphrases": ("a chapel", "churches", "a house of prayer"),
        "sampler": SAMPLER,
        "judge": bright,
        "batch": 2,
    }
    given |= more
    return Target(**{"pictured": given["rows"], **given})
