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
    return torch.cat([classifier.logits(batch.x).float().cpu() for batch in pool.all()])
