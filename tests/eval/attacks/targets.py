"""What attacks on the tiny pipelines are handed: rows of few steps, and judges that are told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from erase.eval.attacks import Target
from erase.images.request import Request, Sampler
from erase.prompts.concept import Concept

CHURCH = Concept("church", "object", "church", ("a photo of a {}", "{} at night"))
PROMPTS = ("a photo of a church", "church at night", "a church")


class Told:
    """A judge that gives every image a probability in the order in which it is shown them.

    Attributes:
        shown: the images of each call.
    """

    def __init__(self, *p: float, then: float = 0.1) -> None:
        self.left = list(p)
        self.then = then
        self.shown: list[list[NDArray[np.uint8]]] = []

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[float]:
        self.shown.append(list(images))
        return [self.left.pop(0) if self.left else self.then for _ in images]


def rows(prompts: Sequence[str], seed: int = 0, role: str = "forget") -> list[Request]:
    """A row of each prompt, with seeds that count up."""
    return [Request("set", i, 0, p, seed + i, role) for i, p in enumerate(prompts)]


def target(
    count: int = 2,
    judge: Told | None = None,
    retained: Sequence[str] = ("a red truck", "the old trumpet"),
    steps: int = 2,
    guidance: float = 1.0,
) -> Target:
    """Rows of the church, each image of which costs ``steps`` forwards, or twice that guided."""
    asked = rows(PROMPTS[:count])
    return Target(
        concept=CHURCH,
        rows=asked,
        pictured=asked,
        shown=rows(["a church by the sea"], 50),
        retained=rows(retained, 100, "retain"),
        elsewhere=asked,
        paraphrases=("a house of prayer",),
        sampler=Sampler(steps=steps, guidance=guidance),
        judge=judge or Told(),
        batch=2,
    )


def seeded(seed: int = 0) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)
