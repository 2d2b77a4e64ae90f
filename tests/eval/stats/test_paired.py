from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial

from erase.eval.stats.intervals import wilson
from erase.eval.stats.paired import difference, newcombe_paired

Z = 1.959963984540054
COUNT = st.integers(0, 60)
TABLE = st.tuples(COUNT, COUNT, COUNT, COUNT).filter(any)


@pytest.mark.parametrize(
    ("both", "first", "second", "neither", "low", "high"),
    [
        # Newcombe 1998, method 10 in his own example; without the correction of φ (method 8) it
        # would be 0.0618 to 0.3242.
        (20, 12, 2, 16, 0.0562, 0.3292),
        # Fagerland, Lydersen and Laake 2014, Statistics in Medicine 33:2850: airway reactivity.
        (1, 1, 7, 12, -0.507, -0.026),
    ],
)
def test_published_intervals(
    both: int, first: int, second: int, neither: int, low: float, high: float
) -> None:
    # They subtract the second from the first, we the base from what came of it.
    found = newcombe_paired(both, only_base=second, only_erased=first, neither=neither)
    assert found.n == both + first + second + neither
    assert found.value == pytest.approx((first - second) / found.n)
    digits = 4 if low > 0 else 3
    assert (round(found.low, digits), round(found.high, digits)) == (low, high)


def test_ends_by_hand() -> None:
    # All 10 pairs lose their hit: φ is 0, either half width is q = z²/(10 + z²).
    q = Z**2 / (10 + Z**2)
    found = newcombe_paired(0, 10, 0, 0)
    assert (found.value, found.n) == (-1, 10)
    assert (found.low, found.high) == pytest.approx((-1, -1 + q * math.sqrt(2)))
    # Nothing anywhere is no certainty.
    upper = wilson(0, 10)[1]
    nothing = newcombe_paired(0, 0, 0, 10)
    assert (nothing.low, nothing.high) == pytest.approx((-upper, upper))


def test_pairs_that_disagree_widen_the_interval() -> None:
    # 5 and 5 of 10 on either side: c = 0·0 - 5·5, φ = -1, so half widths add up.
    low, high = wilson(5, 10)
    opposed = newcombe_paired(0, 5, 5, 0)
    assert (opposed.low, opposed.high) == pytest.approx((low - high, high - low))
    # The same shares in agreement: c = 25 - 10/2, φ = 20/25, half width a·√(2 - 2φ).
    agreed = newcombe_paired(5, 0, 0, 5)
    half = (high - 0.5) * math.sqrt(0.4)
    assert (agreed.low, agreed.high) == pytest.approx((-half, half))


@given(TABLE)
def test_the_sides_are_alike(table: tuple[int, int, int, int]) -> None:
    both, base, erased, neither = table
    found = newcombe_paired(both, base, erased, neither)
    swapped = newcombe_paired(both, erased, base, neither)
    assert -1 - 1e-12 <= found.low <= found.value <= found.high <= 1 + 1e-12
    mirrored = pytest.approx((-found.high, -found.low), abs=1e-12)
    assert (swapped.low, swapped.high) == mirrored


def test_a_higher_confidence_is_wider() -> None:
    narrow, wide = (newcombe_paired(4, 9, 2, 15, confidence=c) for c in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high


@pytest.mark.parametrize("table", [(0, 0, 0, 0), (3, -1, 0, 0)])
def test_impossible_tables_are_refused(table: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="no interval for pairs"):
        newcombe_paired(*table)


def test_hits_are_counted_in_pairs() -> None:
    base = [True, True, True, False, False, True]
    erased = [True, False, False, True, False, False]
    assert difference(base, erased) == newcombe_paired(1, 3, 1, 1)
    assert difference([], []) is None
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        difference(base, erased[:-1])


@pytest.mark.parametrize(
    ("n", "before", "after", "phi"), [(60, 0.9, 0.1, 0.0), (60, 0.3, 0.2, 0.4)]
)
def test_the_exact_coverage_of_a_paired_difference(
    n: int, before: float, after: float, phi: float
) -> None:
    """Every table of n pairs with its multinomial probability: no simulation."""
    both = before * after + phi * (before * (1 - before) * after * (1 - after)) ** 0.5
    cells = np.array([both, before - both, after - both, 1 - before - after + both])
    tables = np.array(
        [
            (a, b, c, n - a - b - c)
            for a in range(n + 1)
            for b in range(n + 1 - a)
            for c in range(n + 1 - a - b)
        ]
    )
    chance = multinomial.pmf(tables, n, cells)
    likely = chance > 1e-9
    coverage = 0.0
    for table, p in zip(tables[likely].tolist(), chance[likely].tolist(), strict=True):
        found = newcombe_paired(*table)
        coverage += p * (found.low <= after - before <= found.high)
    assert chance[likely].sum() > 1 - 1e-4
    assert 0.93 <= coverage <= 0.99
