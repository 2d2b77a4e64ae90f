from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erase.eval.stats import Share, share, wilson

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
