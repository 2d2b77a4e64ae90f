from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from erase.eval.stats.intervals import Share, average, share, wilson

Z = 1.959963984540054


def test_values_by_hand() -> None:
    # 8 of 10: centre (0.8 + z²/20)/(1 + z²/10) = 0.71674, half width 0.22657.
    assert wilson(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    # At 0 of n the upper bound is z²/(n + z²).
    assert wilson(0, 120) == (0.0, pytest.approx(Z**2 / (120 + Z**2)))
    assert wilson(120, 120) == (pytest.approx(120 / (120 + Z**2)), 1.0)
    # A confidence of 68.27 % is one standard deviation: z = 1, 1 of 2 gives 1/2 ± √(1/12).
    one_sigma = math.erf(1 / math.sqrt(2))
    assert wilson(1, 2, one_sigma) == pytest.approx((0.5 - 12**-0.5, 0.5 + 12**-0.5))


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_bounds_solve_the_score_equation(kn: tuple[int, int]) -> None:
    k, n = kn
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    for bound in (low, high):
        # The bounds are the p with |k/n - p| = z·√(p(1-p)/n), or the ends of [0, 1].
        deviation = Z * math.sqrt(bound * (1 - bound) / n)
        assert abs(k / n - bound) == pytest.approx(deviation, abs=1e-9)
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"{k} of {n}"):
        wilson(k, n)


def test_share() -> None:
    assert share(0, 0) is None
    assert share(8, 10) == Share(0.8, 10, *wilson(8, 10))


@pytest.mark.parametrize("n", [10, 60, 120, 240])
def test_the_exact_coverage_of_a_share(n: int) -> None:
    """Over every p of a grid, the probability that the interval holds it: no simulation."""
    bounds = np.array([wilson(k, n) for k in range(n + 1)])
    p = np.linspace(0, 1, 2001)[1:-1]
    chance = binom.pmf(np.arange(n + 1)[:, None], n, p)
    holds = (bounds[:, :1] <= p) & (p <= bounds[:, 1:])
    coverage = (chance * holds).sum(0)
    assert 0.94 <= coverage.mean() <= 0.96
    if n >= 60:
        assert coverage[(p >= 0.02) & (p <= 0.98)].min() >= 0.92


def test_a_mean_over_images_by_hand() -> None:
    # 1, 2, 3: standard deviation 1, standard error 1/√3.
    found = average([1.0, 2.0, 3.0])
    assert (found.value, found.n, found.reason) == (2.0, 3, None)
    # Student's t of 2 degrees of freedom, from a table.
    assert (found.low, found.high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert average([1.0]).reason == "not measured: 1 image, at least 2 are needed"


def test_an_interval_stays_on_its_scale() -> None:
    wide = average([20.0, 24.0])
    assert wide.low < 0 < wide.value < 100 < wide.high + 60  # type: ignore[operator]
    found = average([20.0, 24.0], 0.0, 30.0)
    assert (found.value, found.low, found.high) == (22.0, 0.0, 30.0)


def test_a_value_that_is_not_finite_is_a_reason() -> None:
    found = average([1.0, math.nan, 2.0])
    assert found.value is None and "not finite" in str(found.reason)
