"""RMIA: an attack sample by sample that knows how hard each is, from the retrained models.

Zarifzadeh et al., arXiv 2312.03262, offline, with the references as models that never saw x:

    LR(x, z) = [p(x|θ) / p(x)] / [p(z|θ) / p(z)],   p(x) = ½ ((1 + a) · p_out(x) + 1 - a)
    score(x) = share of z with LR(x, z) ≥ γ

p is the probability of the true label, p_out its mean over the references. z are one half of the
split's ``attack`` samples, or of the class's test samples where a whole one is forgotten; the other
half are the samples that the attack must tell from those to forget.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from erase.eval.classifiers.evidence import Case, Part, Side, confidence, drawn, unseen
from erase.eval.classifiers.metrics.loss_attack import attacked
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.separation import Scores
from erase.runtime.words import counted

RANK = 50
AUC = Column(
    "rmia_auc",
    "RMIA, AUC",
    about=(
        "chance that the attack by likelihood ratios ranks a sample to forget above a test sample; "
        "right is the retrained models' value"
    ),
    digits=3,
)
TPR = Column(
    "rmia_tpr",
    "RMIA, TPR",
    "%",
    about=(
        "samples to forget that it finds at 1 % false positives; right is the retrained models' "
        "value"
    ),
)
COLUMNS = (AUC, TPR)
BOUNDS = {AUC.key: (0.0, 1.0)}
A = 0.3
"""How far p_out stands for p: the paper's for CIFAR-10."""
GAMMA = 2.0
FEWEST = 2
"""References."""


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``."""
    own = {"side": side.name, "metric": "rmia"}
    why = None
    if len(references) < FEWEST:
        why = (
            f"{counted(len(references), 'retrained model')} beside it, at least {FEWEST} are needed"
        )
    elif len(case.labels.get(unseen(case), ())) < 4:
        why = "no test samples are set aside for attacks"
    if why:
        return [figure(column, None, reason=why, **own) for column in COLUMNS]

    parts: tuple[Part, ...] = ("forget", unseen(case))
    inside, rest = (_ratios(case, part, side, references) for part in parts)
    order = drawn(len(rest), len(rest), case.seed, "rmia")
    population, outside = rest[order[: len(rest) // 2]], rest[order[len(rest) // 2 :]]
    return attacked(COLUMNS, scores(inside, population), scores(outside, population), **own)


def scores(ratios: Scores, population: Scores) -> Scores:
    """The share (N,) of the population's ratios that each is at least γ times as large as."""
    counts = np.searchsorted(np.sort(population), ratios / GAMMA, side="right")
    found: Scores = counts / len(population)
    return found


def _ratios(case: Case, part: Part, side: Side, references: Sequence[Side]) -> Scores:
    """p(x|θ) / p(x) of each sample."""
    labels = case.labels[part]
    outside = np.mean([confidence(r.logits[part], labels) for r in references], axis=0)
    found: Scores = confidence(side.logits[part], labels) / (0.5 * ((1 + A) * outside + 1 - A))
    return found
