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
from statistics import fmean

from erase.eval.stats.repeated import Repeated, of_pairs, repeated, too_few, within

FOUR = ("ua", "ra", "ta", "mia")
"""What the gap is made of."""
Four = Mapping[str, float]
"""A model's fractions in [0, 1] by the names of ``FOUR``."""
MODEL = "retrained model"


def distances(side: Four, retrained: Sequence[Four]) -> dict[str, Repeated]:
    """Each of the four minus the retrained models' mean, with a t-interval over these."""
    away = {key: repeated([side[key] - r[key] for r in retrained], MODEL) for key in FOUR}
    return {key: within(found, -1.0, 1.0) for key, found in away.items()}


def gap_of_means(side: Four, retrained: Sequence[Four]) -> Repeated:
    """The gap of means, in [0, 1].

    Its interval is Student's over ``g_i = ¼ Σ_k s_k (u_k - r_ik)``, whose mean the gap is, with the
    signs s_k of the mean differences held fixed; it tells how far other retrained models would
    move it, and is cut off at 0.
    """
    means = {key: fmean(r[key] for r in retrained) for key in FOUR} if retrained else {}
    signs = {key: math.copysign(1.0, side[key] - mean) for key, mean in means.items()}
    each = [fmean(signs[key] * (side[key] - r[key]) for key in FOUR) for r in retrained]
    return within(repeated(each, MODEL), 0.0, 1.0)


def mean_gap(side: Four, retrained: Sequence[Four]) -> Repeated:
    """The mean of the gaps to each retrained model, in [0, 1], with a t-interval over these."""
    return within(repeated([apart(side, r) for r in retrained], MODEL), 0.0, 1.0)


def floor(retrained: Sequence[Four], keys: Sequence[str] = FOUR) -> Repeated:
    """The mean gap of two retrained models over ``keys``, in [0, 1], see ``repeated.of_pairs``."""
    if len(retrained) < 2:
        return Repeated(n=len(retrained), reason=too_few(len(retrained), MODEL))
    each = [
        fmean(apart(one, other, keys) for other in retrained if other is not one)
        for one in retrained
    ]
    return within(of_pairs(each, MODEL), 0.0, 1.0)


def apart(one: Four, other: Four, keys: Sequence[str] = FOUR) -> float:
    """Mean distance of two models over ``keys``."""
    return fmean(abs(one[key] - other[key]) for key in keys)


def barely_forgotten(unlearned: float, base: float, retrained: float) -> bool:
    """Whether UA is nearer to the untouched model's than to the retrained models' mean."""
    return abs(unlearned - base) < abs(unlearned - retrained)
