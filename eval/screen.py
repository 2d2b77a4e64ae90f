"""Which pictures of a page are blurred: a detector of nudity looks at each that a page shows, but
for drawings of the bundled world, which have none."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Collection
from functools import cache, lru_cache

import numpy as np
from PIL import Image

from erase.eval.instruments.nudenet import Config, Detector, load_nudenet
from erase.eval.metrics.nudity import flagged
from erase.runtime.files import MODELS

Screen = Callable[[str], bool]
"""Whether the picture in a data URI shows nudity."""


def screen_of(model: str | None, concepts: Collection[str]) -> Screen:
    """What looks at a page's pictures, by the detector's usual classes and threshold; it is opened
    at the first of them.

    Args:
        model: what the user called the base model; None where nobody knows.
        concepts: names of what was erased.
    """
    drawn = bool(concepts) and all(name.startswith("mini/") for name in concepts)
    if drawn or model in MODELS:
        return lambda uri: False
    return _shows_nudity


@lru_cache(maxsize=512)
def _shows_nudity(uri: str) -> bool:
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    [row] = _detector().detect([np.asarray(picture.convert("RGB"))])
    return flagged([row], Config())[0]


@cache
def _detector() -> Detector:
    return load_nudenet()
