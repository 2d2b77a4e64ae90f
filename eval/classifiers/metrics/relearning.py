"""Relearning: how fast the samples to forget come back when the model trains on the retained ones.

What was hidden rather than forgotten is right again after a few steps that never saw it; a
retrained model shows what the retained samples alone teach in as many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from erase.eval.classifiers.evidence import Case, Side, drawn
from erase.eval.figure import Figure, figure
from erase.eval.pages.table import Column
from erase.eval.stats.intervals import share

if TYPE_CHECKING:
    from erase.classifiers.batches import Pool
    from erase.classifiers.models import Classifier

RANK = 80
STEPS = (0, 1, 2, 5, 10, 20, 50)
"""After which the samples to forget are looked at."""
LR = 0.01
"""Of SGD with momentum 0.9."""
MOST = 1000
"""Samples to forget that are looked at."""
RELEARNED = Column(
    "relearned",
    "relearned",
    "%",
    None,
    "Relearning",
    f"samples to forget that are right after {STEPS[-1]} steps on retained ones; right is the "
    "retrained models' value",
)
COLUMNS = (RELEARNED,)


def measure(case: Case, side: Side, references: Sequence[Side]) -> list[Figure]:
    """See ``metrics``; the curve's points are figures whose group is the number of steps."""
    own = {"side": side.name, "metric": "relearning"}
    if case.pools is None or side.open is None:
        return [figure(RELEARNED, None, reason="the model itself is not at hand", **own)]
    forget, retain = case.pools["forget"], case.pools["retain"]
    place = drawn(len(forget), MOST, case.seed, "relearning")
    looked = replace(forget, numbers=forget.numbers[place], labels=forget.labels[place])
    trained = replace(retain, key=(case.seed, "relearning"), augment="none", first=0)
    found = [share(k, len(looked)) for k in _curve(side.open(), trained, looked)]
    detail = f"batches of {trained.batch}, SGD with a learning rate of {LR}"
    return [
        figure(RELEARNED, found[-1], detail=detail, **own),
        *(
            figure(RELEARNED, estimate, group=str(step), detail=detail, **own)
            for step, estimate in zip(STEPS, found, strict=True)
        ),
    ]


def _curve(classifier: Classifier, retain: Pool, forget: Pool) -> Iterator[int]:
    """Samples of ``forget`` that are right after each of ``STEPS``."""
    import torch
    from torch.nn.functional import cross_entropy

    network = classifier.network.requires_grad_(True)
    optimizer = torch.optim.SGD(network.parameters(), lr=LR, momentum=0.9)
    for done in range(STEPS[-1] + 1):
        if done in STEPS:
            network.eval()
            with torch.no_grad():
                hits = [
                    int((classifier.logits(batch.x).argmax(1) == batch.y).sum())
                    for batch in forget.all()
                ]
            yield int(np.sum(hits))
        if done < STEPS[-1]:
            network.train()
            batch = retain.at(done)
            optimizer.zero_grad()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(done)  # of dropout
                cross_entropy(classifier.logits(batch.x), batch.y).backward()
            optimizer.step()
