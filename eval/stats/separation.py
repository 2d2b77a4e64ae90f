"""How well a score tells two groups apart."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from erase.eval.stats.intervals import CONFIDENCE, Average, Share, share

Scores = NDArray[np.float64]
FALSE = 0.01
"""False positive rate at which true positives are counted."""
FEWEST = 10
"""False positives that this rate must be made of."""


def auc(positive: Scores, negative: Scores) -> Average:
    """Chance that a positive scores above a negative, ties counting half.

    The interval is that of DeLong et al. 1988, Biometrics 44:837: its variance is
    s²(V₁)/m + s²(V₀)/n, where V₁ of a positive is the share of negatives below it, and V₀ of a
    negative the share of positives above it. Groups that do not overlap have no interval.

    Args:
        positive, negative: (m,) and (n,), at least two of each.

    Returns:
        n counts the positives.
    """
    from scipy.stats import rankdata

    m, n = len(positive), len(negative)
    if min(m, n) < 2:
        return Average(reason=f"{min(m, n)} samples in a group, at least 2 are needed")
    ranks = rankdata(np.concatenate([positive, negative]))
    below = (ranks[:m] - rankdata(positive)) / n
    above = 1 - (ranks[m:] - rankdata(negative)) / m
    value = float(below.mean())
    error = math.sqrt(float(below.var(ddof=1)) / m + float(above.var(ddof=1)) / n)
    if error == 0:
        return Average(value, m)
    half = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2) * error
    return Average(value, m, max(value - half, 0.0), min(value + half, 1.0))


def true_positives(positive: Scores, negative: Scores, rate: float = FALSE) -> Share | Average:
    """Share of positives that score above all but a share ``rate`` of the negatives.

    Returns:
        With the interval of the positives at this threshold; a reason where that share of the
        negatives is too few to tell where the threshold lies.
    """
    allowed = int(rate * len(negative) + 1e-9)
    if allowed < FEWEST:
        return Average(
            reason=f"{len(negative):,} test samples, {round(FEWEST / rate):,} are needed"
        )
    threshold = np.sort(negative)[::-1][allowed]
    return share(int((positive > threshold).sum()), len(positive)) or Average(reason="no samples")
