"""The gap and its floor, worked out by hand on three retrained models."""

from __future__ import annotations

import math

import pytest

from erase.eval.classifiers import gap

T2 = 4.302652729911275
"""Student's 97.5 % with 2 degrees of freedom."""


def four(ua: float, ra: float, ta: float, mia: float) -> dict[str, float]:
    return {"ua": ua, "ra": ra, "ta": ta, "mia": mia}


RETRAINED = [four(0.10, 1, 0.88, 0.18), four(0.08, 1, 0.90, 0.20), four(0.12, 1, 0.86, 0.22)]
"""Means 0.10, 1, 0.88, 0.20."""
SIDE = four(0.06, 0.98, 0.87, 0.30)


def test_the_gap_of_means() -> None:
    # Differences -0.04, -0.02, -0.01, +0.10; with these signs, per model
    # (0.04 + 0.02 + 0.01 + 0.12) / 4, (0.02 + 0.02 + 0.03 + 0.10) / 4 and
    # (0.06 + 0.02 - 0.01 + 0.08) / 4.
    found = gap.gap_of_means(SIDE, RETRAINED)
    assert found.value == pytest.approx(0.17 / 4)
    each = [0.0475, 0.0425, 0.0375]
    half = T2 * 0.005 / math.sqrt(3)
    assert found.n == 3 and sum(each) / 3 == pytest.approx(0.17 / 4)
    assert found.low == pytest.approx(0.0425 - half)
    assert found.high == pytest.approx(0.0425 + half)


def test_the_mean_of_the_gaps_counts_what_cancels_in_the_means() -> None:
    # As above, but the third model's TA lies on the other side: |0.87 - 0.86| adds 0.01.
    found = gap.mean_gap(SIDE, RETRAINED)
    assert found.value == pytest.approx((0.0475 + 0.0425 + 0.0425) / 3)
    assert found.low is not None and found.low >= 0


def test_the_distances_have_signs() -> None:
    found = gap.distances(SIDE, RETRAINED)
    assert [round(found[k].value or 0, 6) for k in gap.FOUR] == [-0.04, -0.02, -0.01, 0.1]
    half = T2 * 0.02 / math.sqrt(3)
    assert found["ua"].low == pytest.approx(-0.04 - half)
    assert (found["ra"].low, found["ra"].high) == (pytest.approx(-0.02), pytest.approx(-0.02))


def test_the_floor_and_its_jackknife() -> None:
    # Pairs (1, 2): (.02 + 0 + .02 + .02) / 4, (1, 3): (.02 + 0 + .02 + .04) / 4,
    # (2, 3): (.04 + 0 + .04 + .02) / 4. Each is what leaving the third out gives.
    pairs = [0.015, 0.02, 0.025]
    found = gap.floor(RETRAINED)
    assert found.value == pytest.approx(0.02)
    error = math.sqrt(2 / 3 * sum((p - 0.02) ** 2 for p in pairs))
    assert found.low == pytest.approx(max(0.02 - T2 * error, 0))
    assert found.high == pytest.approx(0.02 + T2 * error)
    assert gap.floor(RETRAINED, ("mia",)).value == pytest.approx((0.02 + 0.04 + 0.02) / 3)


def test_an_exact_model_has_the_floor_as_its_gap_and_less_as_its_gap_of_means() -> None:
    everyone = [four(v, v, v, v) for v in (0.1, 0.2, 0.4, 0.7, 0.8)]
    gaps = [gap.mean_gap(one, [o for o in everyone if o is not one]).value or 0 for one in everyone]
    assert sum(gaps) / 5 == pytest.approx(gap.floor(everyone).value)
    for one in everyone:
        others = [o for o in everyone if o is not one]
        assert (gap.gap_of_means(one, others).value or 0) <= (gap.mean_gap(one, others).value or 0)


def test_intervals_end_where_the_figures_do() -> None:
    apart = [four(0.1, 1, 1, 0), four(0.1, 1, 1, 0), four(0.1, 1, 1, 1)]
    side = four(1.0, 0.0, 0.0, 1.0)
    for found in (gap.gap_of_means(side, apart), gap.mean_gap(side, apart), gap.floor(apart)):
        assert found.low is not None and found.high is not None
        assert 0 <= found.low <= found.high <= 1
    away = gap.distances(four(0, 0, 0, 0), apart)["mia"]
    assert (away.low, away.high) == (-1.0, 1.0)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_below_three_models_there_is_no_interval_but_a_reason(count: int) -> None:
    few = RETRAINED[:count]
    of_means, mean, floor = gap.gap_of_means(SIDE, few), gap.mean_gap(SIDE, few), gap.floor(few)
    for found in (of_means, mean, floor):
        assert (found.n, found.low, found.high) == (count, None, None)
        assert found.reason
    assert (of_means.value is None) == (mean.value is None) == (count == 0)
    assert (floor.value is None) == (count < 2)


@pytest.mark.parametrize(("ua", "expected"), [(0.007, True), (0.05, False), (0.118, False)])
def test_barely_forgotten_is_nearer_to_the_untouched_model(ua: float, expected: bool) -> None:
    assert gap.barely_forgotten(ua, base=0.0, retrained=0.098) is expected
