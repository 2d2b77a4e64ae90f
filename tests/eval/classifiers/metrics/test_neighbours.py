"""The neighbours' accuracy, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from erase.eval.classifiers.metrics import neighbours
from tests.eval.classifiers.answers import saying


def test_neighbours_are_counted_together_and_by_name() -> None:
    made = saying(base=(0, 0, 0, 0), unlearned=(0, 0, 10, 0))
    # The first ten test samples are wrong.
    near = {"a": np.arange(5, 15), "b": np.arange(8, 28)}
    case = replace(made.case, near=near)
    both, *each = neighbours.measure(case, made.unlearned, [])
    assert (both.value, both.n, both.group) == (18 / 23, 23, "")
    assert {row.group: (row.value, row.n) for row in each} == {"a": (0.5, 10), "b": (0.9, 20)}


def test_samples_drawn_at_random_have_none() -> None:
    made = saying(base=(0, 0, 0, 0), unlearned=(0, 0, 0, 0))
    [row] = neighbours.measure(made.case, made.base, [])
    assert row.value is None and "no neighbours" in str(row.reason)
