"""Whole runs here relearn for two steps: the metric's own test takes all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from erase.eval.classifiers.metrics import relearning


@pytest.fixture(autouse=True, scope="package")
def _short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relearning, "STEPS", (0, 1, 2))
        yield
