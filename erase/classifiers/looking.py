"""What a network says of samples."""

from __future__ import annotations

import torch
from torch import Tensor

from erase.classifiers.batches import Pool
from erase.classifiers.models import Classifier
from erase.runtime.errors import UserError


@torch.no_grad()
def predictions(classifier: Classifier, pool: Pool) -> Tensor:
    """Logits float32 (N, K) on the CPU of every sample in order, in evaluation mode.

    Raises:
        UserError: one that is not finite.
    """
    classifier.network.eval()
    found = torch.cat([classifier.logits(batch.x).float().cpu() for batch in pool.all()])
    if not bool(torch.isfinite(found).all()):
        raise UserError(
            "The network answers with values that are not finite, though its weights are: lower "
            "--lr, or give other weights."
        )
    return found
