"""Which pictures of a page are blurred: a detector of nudity looks at each that a page shows, but
for drawings of the bundled models, which have none."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from functools import cache, lru_cache

import numpy as np
from PIL import Image

from erase.eval.instruments.nudenet import Config, Detector, load_nudenet
from erase.eval.metrics.nudity import flagged
from erase.runtime.files import MODELS

Screen = Callable[[str], bool]
"""Whether the picture in a data URI shows nudity."""


def screen_of(model: str | None) -> Screen:
    """What looks at a page's pictures, by the detector's usual classes and threshold; it is opened
    at the first of them.

    Args:
        model: what the user called the base model; None where nobody knows.
    """
    return (lambda uri: False) if model in MODELS else _shows_nudity


@lru_cache(maxsize=512)
def _shows_nudity(uri: str) -> bool:
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    [row] = _detector().detect([np.asarray(picture.convert("RGB"))])
    return flagged([row], Config())[0]


@cache
def _detector() -> Detector:
    return load_nudenet()
