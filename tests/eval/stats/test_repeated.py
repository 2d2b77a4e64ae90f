"""Means over a few repetitions."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import fmean

import numpy as np
import pytest
from scipy import stats

from erase.eval.stats.repeated import Repeated, of_pairs, repeated, within


def test_the_interval_is_students() -> None:
    values = [0.10, 0.13, 0.11, 0.16]
    found = repeated(values)
    low, high = stats.t.interval(0.95, 3, loc=0.125, scale=stats.sem(values))
    assert (found.value, found.n) == (pytest.approx(0.125), 4)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_by_hand_on_three() -> None:
    # s = 1, so the half width is 4.302653 / sqrt(3) = 2.484138.
    found = repeated([1.0, 2.0, 3.0])
    assert found.low == pytest.approx(2 - 2.484138, abs=1e-6)
    assert found.high == pytest.approx(2 + 2.484138, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], Repeated(None, 0, reason="no model")),
        ([0.5], Repeated(0.5, 1, reason="1 model, an interval needs 3")),
        ([0.5, 1.0], Repeated(0.75, 2, reason="2 models, an interval needs 3")),
    ],
)
def test_too_few_have_a_reason_in_place_of_an_interval(
    values: list[float], expected: Repeated
) -> None:
    assert repeated(values) == expected
    assert within(expected) == expected


def test_an_interval_is_cut_to_what_can_be() -> None:
    assert within(Repeated(0.5, 3, -0.2, 1.2), 0, 1) == Repeated(0.5, 3, 0, 1)


@pytest.mark.parametrize("n", [3, 5])
def test_over_pairs_it_is_the_jackknife(n: int) -> None:
    d = np.random.default_rng(0).random((n, n))
    d = (d + d.T) / 2
    found = of_pairs([float(np.delete(d[i], i).mean()) for i in range(n)])
    pairs = list(combinations(range(n), 2))
    without = [fmean(d[p] for p in pairs if i not in p) for i in range(n)]
    error = math.sqrt((n - 1) / n * sum((w - fmean(without)) ** 2 for w in without))
    assert found.value == pytest.approx(fmean(d[p] for p in pairs)) and found.n == n
    half = float(stats.t.ppf(0.975, n - 1)) * error
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))
    assert of_pairs([0.5, 0.5]).reason == "2 models, an interval needs 3"
