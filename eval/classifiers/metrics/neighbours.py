"""Neighbours: test accuracy on what is nearest to the forgotten samples, where damage shows first.

Of a class, the neighbours are the classes that retrained models take its samples for; of an object
in one style, the object in other styles and other objects in the style.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from erase.eval.classifiers.evidence import Case, Side, right
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.intervals import share

RANK = 15
NEAR = Column(
    "near",
    "neighbours",
    "%",
    "up",
    "Neighbours' accuracy",
    "test samples nearest to what is forgotten that it gets right",
)
COLUMNS = COMPARED = (NEAR,)


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``; each kind of neighbour has a figure too, which its group names."""
    own = {"side": side.name, "metric": "neighbours"}
    if not case.near:
        why = (
            "no retrained model to tell them"
            if case.forgotten is not None
            else "the samples have no neighbours more than others"
        )
        return [figure(NEAR, None, reason=why, **own)]
    hits = right(side.logits["test"], case.labels["test"])
    every = np.unique(np.concatenate(list(case.near.values())))
    return [
        figure(NEAR, share(int(hits[every].sum()), len(every)), **own),
        *(
            figure(NEAR, share(int(hits[places].sum()), len(places)), group=name, **own)
            for name, places in case.near.items()
        ),
    ]
