"""What a denoiser is told about the picture besides the noise level: prompts, as it reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """Prompts c as the denoiser is told them, one row each: embedded texts, or labels of classes.

    Methods index, join and hand them on without looking inside.

    Attributes:
        hidden: (B, 77, D), what cross-attention reads; of a class-conditional model the labels
            (B,), int64.
        added: what else the model's family tells its denoiser, by name, (B, …) each.
    """

    hidden: Tensor
    added: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, rows: Tensor | slice) -> Conditioning:
        return self.each(lambda x: x[rows])

    def repeat(self, count: int) -> Conditioning:
        """The only row, ``count`` times, without copies."""
        return self.each(lambda x: x.expand(count, *x.shape[1:]))

    def float(self) -> Conditioning:
        """The same in fp32."""
        return self.to(torch.float32)

    def to(self, dtype: torch.dtype) -> Conditioning:
        """The same in another precision; labels stay whole numbers."""
        return self.each(lambda x: x.to(dtype) if x.is_floating_point() else x)

    def each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        """The same with each tensor changed."""
        added = {name: change(value) for name, value in self.added.items()}
        return Conditioning(change(self.hidden), added)


def join(parts: Sequence[Conditioning]) -> Conditioning:
    """All rows of the parts, in order."""
    added = {name: torch.cat([p.added[name] for p in parts]) for name in parts[0].added}
    return Conditioning(torch.cat([p.hidden for p in parts]), added)


def where(rows: Tensor, yes: Conditioning, no: Conditioning) -> Conditioning:
    """Row by row ``yes`` where the bool (B,) is true, else ``no``; a single row stands for all."""

    def choose(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(rows.to(a.device).view(-1, *[1] * (a.ndim - 1)), a, b)

    added = {name: choose(value, no.added[name]) for name, value in yes.added.items()}
    return Conditioning(choose(yes.hidden, no.hidden), added)
