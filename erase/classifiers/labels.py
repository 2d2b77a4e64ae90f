"""Wrong labels for samples that are to be forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from erase.runtime.seeding import generator

if TYPE_CHECKING:
    from erase.classifiers.batches import Batch
    from erase.classifiers.unlearning import Unlearning


def random_labels(data: Unlearning, batch: Batch, *, others: bool, redraw: bool) -> Tensor:
    """A label for each row of a batch whose pool has the samples to forget in front.

    Args:
        data: what is forgotten.
        batch: its rows of retained samples get a label that means nothing.
        others: draw from the K - 1 other labels instead of from all K.
        redraw: draw anew in every pass.

    Returns:
        int64 (B,), on the batch's device.
    """
    found = torch.zeros(len(batch.place), dtype=torch.int64)
    count, k = len(data.forget), data.classes
    for turn in batch.turn.unique().tolist():
        key = generator(data.seed, "labels", int(turn) if redraw else 0)
        if others:
            steps = torch.randint(1, k, (count,), generator=key)
            table = (data.forget.labels + steps) % k
        else:
            table = torch.randint(0, k, (count,), generator=key)
        rows = (batch.turn == turn) & (batch.place < count)
        found[rows] = table[batch.place[rows]]
    return found.to(batch.y.device)
