"""Differences of shares between two sides that show the same cases."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from erase.eval.stats.intervals import CONFIDENCE, wilson


@dataclass(frozen=True)
class Difference:
    """Share of the erased side minus share of the base side, over the same cases.

    Attributes:
        value: in [-1, 1].
        n: pairs, >= 1.
        low, high: 95 % interval, ``low <= value <= high``.
    """

    value: float
    n: int
    low: float
    high: float


def newcombe_paired(
    both: int,
    only_base: int,
    only_erased: int,
    neither: int,
    confidence: float = CONFIDENCE,
) -> Difference:
    """Score interval of a difference between paired shares: method 10 of Newcombe 1998, Statistics
    in Medicine 17:2635.

    With p and q the shares of the erased and the base side, [l, u] and [l', u'] their Wilson
    intervals and d = p - q:

        low  = d - √((p-l)² - 2φ(p-l)(u'-q) + (u'-q)²)
        high = d + √((u-p)² - 2φ(u-p)(q-l') + (q-l')²)

    φ is the correlation of the two sides, with c = both·neither - only_base·only_erased in its
    numerator lowered to max(c - n/2, 0) where it is positive; 0 where a side has no or only hits.
    Unlike an interval of differences alone it has a width where no pair changed.

    Args:
        both, only_base, only_erased, neither: pairs with a hit on these sides, >= 0, one at least.
        confidence: two-sided coverage in (0, 1).

    Raises:
        ValueError: numbers out of range.
    """
    counts = (both, only_base, only_erased, neither)
    n = sum(counts)
    if n < 1 or min(counts) < 0:
        raise ValueError(f"no interval for pairs {counts}")
    base, erased = both + only_base, both + only_erased
    q, p = base / n, erased / n
    (q_low, q_high), (p_low, p_high) = wilson(base, n, confidence), wilson(erased, n, confidence)
    c: float = both * neither - only_base * only_erased
    if c > 0:
        c = max(c - n / 2, 0)
    margins = base * (n - base) * erased * (n - erased)
    phi = c / math.sqrt(margins) if margins else 0.0

    def half(a: float, b: float) -> float:
        return math.sqrt(a * a - 2 * phi * a * b + b * b)

    value = (only_erased - only_base) / n
    return Difference(
        value,
        n,
        value - half(p - p_low, q_high - q),
        value + half(p_high - p, q - q_low),
    )


def difference(
    base: Sequence[bool], erased: Sequence[bool], confidence: float = CONFIDENCE
) -> Difference | None:
    """Difference between the shares of hits; None for no pairs.

    Args:
        base, erased: hits of the same cases in the same order.
        confidence: two-sided coverage in (0, 1).

    Raises:
        ValueError: sides of different lengths.
    """
    pairs = Counter(zip(base, erased, strict=True))
    if not pairs:
        return None
    return newcombe_paired(
        pairs[True, True],
        pairs[True, False],
        pairs[False, True],
        pairs[False, False],
        confidence,
    )
