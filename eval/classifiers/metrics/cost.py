"""Cost: what unlearning took, mask included, as a share of what retraining takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from erase.eval.classifiers.evidence import Case, Side
from erase.eval.classifiers.references import NONE
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.repeated import Repeated

RANK = 110
SAMPLES = Column(
    "cost_samples",
    "samples, share of Retrain",
    "",
    "down",
    "Samples seen",
    "forward and backward passes, as a share of a retraining's",
    3,
)
SECONDS = Column(
    "cost_seconds",
    "time, share of Retrain",
    "",
    "down",
    "Time",
    "seconds on the machine of the run, reading and writing included, as a share of the steps of a "
    "retraining",
    3,
)
COLUMNS = (SAMPLES, SECONDS)
BOUNDS = {column.key: (0.0, math.inf) for column in COLUMNS}


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``."""
    samples = [r.samples for r in references if r.samples is not None]
    seconds = [r.seconds for r in references if r.seconds is not None]
    return [
        _ratio(SAMPLES, side.samples, samples, "counted from the first step on", side),
        _ratio(SECONDS, side.seconds, seconds, "one run", side),
    ]


def _ratio(
    column: Column, own: float | None, theirs: Sequence[float], note: str, side: Side
) -> Figure:
    where = {"side": side.name, "metric": "cost"}
    if own is None or not theirs or not fmean(theirs):
        why = "not known of this model" if own is None else NONE
        return figure(column, None, reason=why, **where)
    found = Repeated(own / fmean(theirs), len(theirs))
    return figure(column, found, note=note, detail="retrained models", **where)
