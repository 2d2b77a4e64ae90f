"""The gap to exact unlearning: how far UA, RA, TA and MIA lie from a retrained model's.

With k over the four figures and i, j over the retrained models:

    gap of means   ¼ Σ_k |u_k - mean_i r_ik|           as papers print it
    mean gap       mean_i ¼ Σ_k |u_k - r_ik|           of one model from another
    floor          mean_{i<j} ¼ Σ_k |r_ik - r_jk|      of one retrained model from another

A model that forgot exactly has the floor as its mean gap, on average. The gap of means is never
above the mean gap, and for such a model usually below the floor: a mean is nearer than its parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean

from erase.eval.stats.repeated import FEWEST, Repeated, repeated, student, too_few, within

FOUR = ("ua", "ra", "ta", "mia")
"""What the gap is made of."""
Four = Mapping[str, float]
"""A model's fractions in [0, 1] by the names of ``FOUR``."""
MODEL = "retrained model"


def distances(side: Four, retrained: Sequence[Four]) -> dict[str, Repeated]:
    """Each of the four minus the retrained models' mean, with a t-interval over these."""
    return {key: repeated([side[key] - r[key] for r in retrained], MODEL) for key in FOUR}


def gap_of_means(side: Four, retrained: Sequence[Four]) -> Repeated:
    """The gap of means, in [0, 1].

    Its interval is Student's over ``g_i = ¼ Σ_k s_k (u_k - r_ik)``, whose mean the gap is, with the
    signs s_k of the mean differences held fixed; it tells how far other retrained models would
    move it, and is cut off at 0.
    """
    means = {key: fmean(r[key] for r in retrained) for key in FOUR} if retrained else {}
    signs = {key: math.copysign(1.0, side[key] - mean) for key, mean in means.items()}
    each = [fmean(signs[key] * (side[key] - r[key]) for key in FOUR) for r in retrained]
    return within(repeated(each, MODEL))


def mean_gap(side: Four, retrained: Sequence[Four]) -> Repeated:
    """The mean of the gaps to each retrained model, in [0, 1], with a t-interval over these."""
    return within(repeated([apart(side, r) for r in retrained], MODEL))


def floor(retrained: Sequence[Four], keys: Sequence[str] = FOUR) -> Repeated:
    """The mean gap of two retrained models over ``keys``, in [0, 1]; ``n`` counts the models.

    Every model is in several pairs, so an interval over pairs would be too narrow: it is
    Student's with the jackknife's error, leaving out one model at a time.
    """
    n = len(retrained)
    pairs = {(i, j): apart(retrained[i], retrained[j], keys) for i, j in combinations(range(n), 2)}
    if n < FEWEST:
        return Repeated(fmean(pairs.values()) if pairs else None, n, reason=too_few(n, MODEL))
    value = fmean(pairs.values())
    without = [fmean(d for pair, d in pairs.items() if out not in pair) for out in range(n)]
    error = math.sqrt((n - 1) / n * sum((d - fmean(without)) ** 2 for d in without))
    half = student(n - 1) * error
    return within(Repeated(value, n, value - half, value + half))


def apart(one: Four, other: Four, keys: Sequence[str] = FOUR) -> float:
    """Mean distance of two models over ``keys``."""
    return fmean(abs(one[key] - other[key]) for key in keys)


def barely_forgotten(unlearned: float, base: float, retrained: float) -> bool:
    """Whether UA is nearer to the untouched model's than to the retrained models' mean."""
    return abs(unlearned - base) < abs(unlearned - retrained)
