"""What a network makes of an image before its last layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor, nn

    from erase.classifiers.batches import Pool
    from erase.classifiers.models import Classifier


def features(classifier: Classifier, pool: Pool) -> NDArray[np.float32] | None:
    """The input (N, D) of the linear layer that gives the logits.

    Args:
        classifier: in evaluation mode.
        pool: of N samples.

    Returns:
        None for a network whose logits are not what a linear layer gives.
    """
    import torch

    found: list[tuple[Tensor, Tensor]] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        found.append((given[0], output))

    linear = [m for m in classifier.network.modules() if isinstance(m, torch.nn.Linear)]
    hooks = [module.register_forward_hook(keep) for module in linear]
    parts = []
    try:
        with torch.no_grad():
            for batch in pool.all():
                found.clear()
                logits = classifier.logits(batch.x)
                if not found or not torch.equal(found[-1][1], logits):
                    return None
                parts.append(found[-1][0].float().cpu().numpy())
    finally:
        for hook in hooks:
            hook.remove()
    return np.concatenate(parts)
