"""Figures that there is one of for each retrained model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.repeated import repeated, within

NONE = "no retrained model to compare with"


def over_references(
    column: Column, values: Sequence[float], high: float = math.inf, **own: str
) -> Figure:
    """The mean over the retrained models with its interval.

    Args:
        column: what it is.
        values: one of each, >= 0.
        high: the most that the figure can be.
        own: further fields of the figure.
    """
    if not values:
        return figure(column, None, reason=NONE, **own)
    found = within(repeated(values, "retrained model"), 0.0, high)
    more = {"note": found.reason or "", "reason": None, "detail": "retrained models"}
    return figure(column, found, **more, **own)
