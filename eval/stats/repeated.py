"""Means over a few repetitions, such as retrained models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from erase.eval.stats.intervals import CONFIDENCE
from erase.runtime.words import counted

FEWEST = 3
"""Repetitions below which there is no interval: of two, Student's would be 12.7 deviations wide."""


@dataclass(frozen=True)
class Repeated:
    """A mean over repetitions with its 95 % interval.

    Attributes:
        value: None where there is none.
        n: repetitions.
        low, high: None where there are too few.
        reason: why there is no value or no interval.
    """

    value: float | None = None
    n: int = 0
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def repeated(values: Sequence[float], what: str = "model") -> Repeated:
    """The mean with Student's interval, m ± t · s / √n with n - 1 degrees of freedom.

    Args:
        values: one of each repetition.
        what: they are, for the reason.
    """
    n = len(values)
    if n < FEWEST:
        mean = fmean(values) if values else None
        return Repeated(mean, n, reason=too_few(n, what))
    mean = fmean(values)
    half = student(n - 1) * stdev(values) / math.sqrt(n)
    return Repeated(mean, n, mean - half, mean + half)


def of_pairs(values: Sequence[float], what: str = "model") -> Repeated:
    """The mean of a figure d_ij over all pairs of n models; ``n`` counts the models.

    Every model is in several pairs, so an interval over pairs would be too narrow: it is
    Student's with the jackknife's error, leaving out one model at a time. Without model i the
    mean D is (n·D - 2·v_i) / (n - 2).

    Args:
        values: v_i, the mean of d_ij = d_ji over j, of each model.
        what: they are, for the reason.
    """
    n = len(values)
    if n < FEWEST:
        return Repeated(fmean(values) if values else None, n, reason=too_few(n, what))
    mean = fmean(values)
    squares = sum((v - mean) ** 2 for v in values)
    half = student(n - 1) * 2 * math.sqrt((n - 1) / n * squares) / (n - 2)
    return Repeated(mean, n, mean - half, mean + half)


def too_few(n: int, what: str) -> str:
    """Why ``n`` repetitions have no interval."""
    return f"{counted(n, what)}, an interval needs {FEWEST}" if n else f"no {what}"


def student(freedom: int) -> float:
    """Deviations that the interval of a mean reaches to each side."""
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, freedom))


def within(found: Repeated, low: float = 0.0, high: float = math.inf) -> Repeated:
    """The same with its interval cut to what the figure can be."""
    if found.low is None or found.high is None:
        return found
    return Repeated(found.value, found.n, max(found.low, low), min(found.high, high))
