"""Batches for training and unlearning, the same whatever was interrupted before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erase.classifiers.samples import Chained, Samples
from erase.runtime.seeding import cycle, generator

PADDING = 4
"""Pixels around an image that is cropped at random."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of a step's samples.

    Attributes:
        x: (B, C, H, W) on the model's device.
        y: int64 (B,), labels.
        place: int64 (B,), each sample's place in its ``Pool``, on the CPU.
        turn: the pass over the pool that each belongs to, int64 (B,), on the CPU.
    """

    x: Tensor
    y: Tensor
    place: Tensor
    turn: Tensor


@dataclass(frozen=True, eq=False)
class Pool:
    """Samples that are gone through again and again, in an order of each pass's own.

    Attributes:
        samples: where the images are.
        numbers: int64 (N,), which of them.
        labels: int64 (N,), of those.
        batch: samples a step.
        key: of every draw.
        device: of the batches.
        augment: see ``samples.Training``.
        first: samples in front that every pass goes through before the others.
    """

    samples: Samples
    numbers: Tensor
    labels: Tensor
    batch: int
    key: tuple[int | str, ...]
    device: torch.device
    augment: str = "none"
    first: int = 0

    def __len__(self) -> int:
        return len(self.numbers)

    def steps(self, epochs: float) -> int:
        """How many batches go through the pool ``epochs`` times, at least one."""
        return max(1, math.ceil(epochs * len(self) / self.batch))

    def at(self, index: int, part: slice = slice(None)) -> Batch:
        """Rows ``part`` of batch ``index``, counted from 0; every batch is full."""
        place = self._places(index)
        turn = torch.arange(index * self.batch, (index + 1) * self.batch) // len(self)
        x = self.samples.images(self.numbers[place[part]])
        if self.augment == "crop-flip":
            x = _cropped(x, index, part, self.batch, self.key)
        return Batch(
            x.to(self.device), self.labels[place[part]].to(self.device), place[part], turn[part]
        )

    def _places(self, index: int) -> Tensor:
        if not self.first:
            return cycle(len(self), self.batch, index, *self.key)
        start, count, rest = index * self.batch, len(self), len(self) - self.first
        passes = range(start // count, (start + self.batch - 1) // count + 1)
        orders: list[Tensor] = []
        for turn in passes:
            orders += [
                torch.randperm(self.first, generator=generator(*self.key, "first", turn)),
                torch.randperm(rest, generator=generator(*self.key, "rest", turn)) + self.first,
            ]
        return torch.cat(orders)[start - passes[0] * count :][: self.batch]

    def rows(self, place: Tensor) -> Batch:
        """The samples at these places (B,), as they are."""
        return Batch(
            self.samples.images(self.numbers[place]).to(self.device),
            self.labels[place].to(self.device),
            place,
            torch.zeros_like(place),
        )

    def all(self) -> Iterator[Batch]:
        """Every sample once, in order, as it is."""
        return map(self.rows, torch.arange(len(self)).split(self.batch))


def joined(first: Pool, second: Pool, key: tuple[int | str, ...], in_turn: bool = False) -> Pool:
    """One pool of two, the samples of ``first`` in front.

    Args:
        in_turn: go through ``first`` before ``second`` in every pass, instead of shuffling both.
    """
    one = first.samples is second.samples
    after = 0 if one else len(first.samples.labels)
    return Pool(
        first.samples if one else Chained(first.samples, second.samples),
        torch.cat([first.numbers, second.numbers + after]),
        torch.cat([first.labels, second.labels]),
        first.batch,
        key,
        first.device,
        first.augment,
        len(first) if in_turn else 0,
    )


def _cropped(x: Tensor, index: int, part: slice, batch: int, key: Sequence[int | str]) -> Tensor:
    """Shifted by up to ``PADDING`` px with black around, and mirrored half of the time.

    Drawn for the whole batch, so that a row's draw does not depend on who takes it.
    """
    drawn = generator(*key, "augment", index)
    shifts = torch.randint(0, 2 * PADDING + 1, (batch, 2), generator=drawn)[part].tolist()
    mirrored = (torch.rand(batch, generator=drawn) < 0.5)[part].tolist()
    height, width = x.shape[-2:]
    padded = torch.nn.functional.pad(x, (PADDING,) * 4)
    rows = [
        row[:, top : top + height, left : left + width]
        for row, (top, left) in zip(padded, shifts, strict=True)
    ]
    return torch.stack(
        [row.flip(-1) if flip else row for row, flip in zip(rows, mirrored, strict=True)]
    )
