"""Linear probe: whether the features before the last layer still tell the samples to forget.

Logistic regression on the features learns from half of the samples to forget, beside retained ones,
and is tried on the other half. A model whose last layer alone was changed is found out by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from erase.eval.classifiers.evidence import Case, Side, drawn
from erase.eval.classifiers.features import features
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.intervals import share

RANK = 90
PROBE = Column(
    "probe",
    "probe",
    "%",
    None,
    "Linear probe",
    "samples to forget that a linear classifier on its features gets right; right is the retrained "
    "models' value",
)
COLUMNS = (PROBE,)
MOST = {"forget": 1000, "retain": 2000}
"""Samples, at most."""


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    own = {"side": side.name, "metric": "probe"}
    if case.pools is None or side.open is None:
        return [figure(PROBE, None, reason="the model itself is not at hand", **own)]
    if len(case.pools["forget"]) < 2:
        return [figure(PROBE, None, reason="1 sample to forget, at least 2 are needed", **own)]
    classifier = side.open()
    classifier.network.eval()
    seen, labels = {}, {}
    for part in ("forget", "retain"):
        pool = case.pools[part]
        place = drawn(len(pool), MOST[part], case.seed, "probe", part)
        some = replace(pool, numbers=pool.numbers[place], labels=pool.labels[place])
        rows = features(classifier, some)
        if rows is None:
            why = "the network does not end in a linear layer"
            return [figure(PROBE, None, reason=why, **own)]
        seen[part], labels[part] = rows, some.labels.numpy()
    half = len(seen["forget"]) // 2
    x = np.concatenate([seen["forget"][:half], seen["retain"]])
    y = np.concatenate([labels["forget"][:half], labels["retain"]])
    if len(np.unique(y)) < 2:
        return [figure(PROBE, None, reason="all samples have one label", **own)]
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, tol=1e-3)).fit(x, y)
    hits = np.equal(probe.predict(seen["forget"][half:]), labels["forget"][half:])
    detail = f"trained on {half:,} samples to forget and {len(x) - half:,} retained ones"
    return [figure(PROBE, share(int(hits.sum()), len(hits)), detail=detail, **own)]
