"""What a network says of samples."""

from __future__ import annotations

import torch
from torch import Tensor

from erase.classifiers.batches import Pool
from erase.classifiers.models import Classifier


@torch.no_grad()
def predictions(classifier: Classifier, pool: Pool) -> Tensor:
    """Logits float32 (N, K) on the CPU of every sample in order, in evaluation mode."""
    classifier.network.eval()
    parts = torch.arange(len(pool)).split(pool.batch)
    return torch.cat([classifier.logits(pool.rows(p).x).float().cpu() for p in parts])
