"""What a denoiser is told about the picture besides the noise level: the embedded prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """Embedded prompts c, one row each, whatever text encoders the model has.

    Methods index, join and hand them on without looking inside.

    Attributes:
        hidden: (B, 77, D), what cross-attention reads.
        pooled: (B, P), what SDXL adds to the timestep's embedding; None elsewhere.
    """

    hidden: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, rows: Tensor | slice) -> Conditioning:
        return self._each(lambda x: x[rows])

    def repeat(self, count: int) -> Conditioning:
        """The only row, ``count`` times, without copies."""
        return self._each(lambda x: x.expand(count, *x.shape[1:]))

    def float(self) -> Conditioning:
        """The same in fp32."""
        return self._each(lambda x: x.float())

    def _each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        pooled = None if self.pooled is None else change(self.pooled)
        return Conditioning(change(self.hidden), pooled)


def join(parts: Sequence[Conditioning]) -> Conditioning:
    """All rows of the parts, in order."""
    pooled = [p.pooled for p in parts if p.pooled is not None]
    return Conditioning(torch.cat([p.hidden for p in parts]), torch.cat(pooled) if pooled else None)


def where(rows: Tensor, yes: Conditioning, no: Conditioning) -> Conditioning:
    """Row by row ``yes`` where the bool (B,) is true, else ``no``; a single row stands for all."""

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(rows.to(a.device).view(-1, *[1] * (a.ndim - 1)), a, b)

    if yes.pooled is None or no.pooled is None:
        return Conditioning(choose(yes.hidden, no.hidden))
    return Conditioning(choose(yes.hidden, no.hidden), choose(yes.pooled, no.pooled))
