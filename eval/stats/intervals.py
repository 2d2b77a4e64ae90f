"""Shares with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev

from erase.runtime.words import counted

CONFIDENCE = 0.95
"""Coverage of every interval in a report."""


@dataclass(frozen=True)
class Share:
    """A share of ``n`` images with its 95 % interval.

    Attributes:
        value: fraction in [0, 1].
        n: number of images, >= 1.
        low, high: Wilson interval, ``low <= value <= high``.
    """

    value: float
    n: int
    low: float
    high: float


def wilson(k: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Score interval of a binomial share (Wilson 1927, JASA 22:209).

        (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n),   p = k/n

    Unlike p ± z·√(p(1-p)/n) it has a width at 0 of n and n of n, and stays inside [0, 1].

    Args:
        k: successes, 0 … n.
        n: trials, >= 1.
        confidence: two-sided coverage in (0, 1).

    Returns:
        Lower and upper bound, fractions.

    Raises:
        ValueError: numbers out of range.
    """
    if not (n >= 1 and 0 <= k <= n and 0 < confidence < 1):
        raise ValueError(f"no interval for {k} of {n} at confidence {confidence}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, scale = k / n, 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / scale
    # At the ends the bound is exact; the subtraction would leave a rounding error.
    return (0.0 if k == 0 else centre - half, 1.0 if k == n else centre + half)


@dataclass(frozen=True)
class Average:
    """A mean over images with its 95 % interval.

    Attributes:
        value: None where not measured.
        n: images.
        low, high: interval of the mean, from the spread of the images.
        reason: why it was not measured.
    """

    value: float | None = None
    n: int = 0
    low: float | None = None
    high: float | None = None
    reason: str | None = None


def average(values: Sequence[float], least: float = -math.inf, most: float = math.inf) -> Average:
    """The mean of at least two values, its interval Student's; with fewer, a reason why there is
    none.

    Args:
        least, most: that a value can be, which ends the interval.
    """
    if len(values) < 2:
        images = counted(len(values), "image")
        return Average(reason=f"not measured: {images}, at least 2 are needed")
    if not all(map(math.isfinite, values)):
        return Average(reason="not measured: a value is not finite, as of a damaged network")
    mean = fmean(values)
    from scipy.stats import t as student

    n = len(values)
    half = float(student.ppf(0.5 + CONFIDENCE / 2, n - 1)) * stdev(values) / math.sqrt(n)
    return Average(mean, len(values), max(least, mean - half), min(most, mean + half))


RESAMPLES = 10_000
"""Number of resamples of a bootstrap."""


ALIKE = 0.001
"""Spread of the groups' means, as a fraction, up to which a table prints them as one value."""


@dataclass(frozen=True)
class Mean:
    """A mean over groups with its 95 % interval.

    Attributes:
        value: the mean of the groups' means.
        groups: how many, >= 1.
        low, high: expanded percentile interval over resampled groups (Hesterberg 2015, The American
            Statistician 69:371), or, of shares that agree in all groups, the Wilson interval of all
            images together; equal to the value where the groups have no spread that could tell.
    """

    value: float
    groups: int
    low: float
    high: float


def bootstrap(groups: Sequence[Sequence[float]], seed: int = 0) -> Mean:
    """Mean of the groups' means, the groups (concepts) resampled with replacement.

    The members of a group (its seeds) are averaged first: the concepts are what a claim
    generalises over. Plain percentiles are too narrow for few groups, by √((n-1)/n) and by what
    Student's t is wider than the normal; the tails are widened by both.

    Args:
        groups: at least one, none of them empty.
        seed: of the resampling.
    """
    import numpy as np
    from scipy.stats import t as student

    means = np.array([np.mean(group) for group in groups])
    value = float(means.mean())
    if len(means) == 1:
        return Mean(value, 1, value, value)
    drawn = np.random.default_rng(seed).integers(len(means), size=(RESAMPLES, len(means)))
    n = len(means)
    wide = math.sqrt(n / (n - 1)) * float(student.ppf(0.5 + CONFIDENCE / 2, n - 1))
    tail = 100 * NormalDist().cdf(-wide)
    low, high = np.percentile(means[drawn].mean(1), [tail, 100 - tail])
    return Mean(value, len(means), float(low), float(high))


def pooled(groups: Sequence[Sequence[tuple[float, int]]], seed: int = 0) -> Mean:
    """Mean of the groups' mean shares, with an interval that has a width where all groups agree.

    A bootstrap of equal values would claim certainty: of ten concepts with 60 of 60 images each,
    the 600 images say 99.4 to 100 %, no more. Members of a group, its seeds, are asked for the same
    images, so that they add none.

    Args:
        groups: at least one, each with the ``(share, n)`` of its members.
        seed: of the resampling.
    """
    found = bootstrap([[value for value, _ in group] for group in groups], seed)
    means = [fmean(value for value, _ in group) for group in groups]
    if max(means) - min(means) > ALIKE:
        return found
    counts = [max(n for _, n in group) for group in groups]
    k = round(sum(mean * n for mean, n in zip(means, counts, strict=True)))
    low, high = wilson(k, sum(counts))
    return Mean(found.value, found.groups, min(low, found.value), max(high, found.value))


def share(k: int, n: int) -> Share | None:
    """``k`` of ``n`` as a fraction with its interval; None where nothing was counted."""
    if n == 0:
        return None
    low, high = wilson(k, n)
    return Share(k / n, n, low, high)
