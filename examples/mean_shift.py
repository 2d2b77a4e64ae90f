"""Mean shift: the keys and values forget the direction from the anchor to the concept.

    W = W0·(I - s·d·dᵀ),   d = (c - a) / ‖c - a‖

with the mean states c and a of the concept's and the anchor's last tokens. A method made up for
this example; to add it, copy it to where methods lie, and `erase run --method mean_shift` has it:

    cp examples/mean_shift.py erase/methods/
    erase run --model mini --concept church --method mean_shift
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erase.methods import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(images=(), loop=False, scope="xattn-kv")
SPACE = {"shift": [0.5, 1.0, 2.0]}


@dataclass(frozen=True)
class Config:
    """Its settings: each is a flag of `erase run`."""

    shift: float = field(
        default=1.0, metadata={"help": "share s of the direction that is taken away", "min": 0.0}
    )


def shifted(w0: Tensor, c: Tensor, a: Tensor, s: float) -> Tensor:
    """W, (out, D), of W0 (out, D) and mean states c, a (D,)."""
    d = (c - a) / (c - a).norm()
    return w0 - s * (w0 @ d)[:, None] * d


def forwards(config: Config, steps: int, batch: int) -> float:
    """Images through the denoiser, for estimates and budgets: none."""
    return 0.0


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Rewrites the keys and values, in place."""
    c, a = (diffusion.text.last_token([pair[i] for pair in data.pairs]).mean(0) for i in (0, 1))
    fit.assign(diffusion.denoiser, lambda name, w0: shifted(w0, c, a, config.shift))
