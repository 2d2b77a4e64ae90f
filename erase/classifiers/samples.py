"""Labelled images, wherever they come from."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from erase.classifiers.training import Training
from erase.runtime.errors import UserError, few

LOOKED_AT = 5000
"""Training images, at most, that ``Data.moments`` are taken over; evenly spaced."""


class Samples(Protocol):
    """Images that are read by their numbers.

    Attributes:
        labels: int64 (N,), each in [0, K).
    """

    @property
    def labels(self) -> Tensor: ...

    def images(self, numbers: Tensor) -> Tensor:
        """float32 (B, C, H, W) in [0, 1]; ``numbers`` is int64 (B,)."""
        ...

    def digest(self) -> str:
        """Hex SHA-256 of the images and labels."""
        ...


@dataclass(frozen=True, eq=False)
class Arrays:
    """Samples in memory.

    Attributes:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,).
    """

    pixels: Tensor
    labels: Tensor

    def images(self, numbers: Tensor) -> Tensor:
        """See ``Samples``."""
        return self.pixels[numbers].float() / 255

    def digest(self) -> str:
        """See ``Samples``."""
        found = hashlib.sha256(str(tuple(self.pixels.shape)).encode())
        found.update(self.pixels.contiguous().numpy().data)
        found.update(self.labels.contiguous().numpy().data)
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Wrapped:
    """Samples of any torch data set of (x, y), x as the model takes it.

    Attributes:
        dataset: with ``__len__`` and ``__getitem__``.
        labels: int64 (N,); ``wrapped`` reads them.
    """

    dataset: Any
    labels: Tensor

    def images(self, numbers: Tensor) -> Tensor:
        """See ``Samples``; in whatever range the data set has."""
        return torch.stack([torch.as_tensor(self.dataset[int(n)][0]) for n in numbers])

    def digest(self) -> str:
        """See ``Samples``."""
        found = hashlib.sha256()
        for number in range(len(self.labels)):
            found.update(self.images(torch.tensor([number])).contiguous().numpy().data)
        found.update(self.labels.contiguous().numpy().data)
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class Chained:
    """Samples of one source, then those of another.

    Attributes:
        first, second: with images of one shape.
    """

    first: Samples
    second: Samples

    @property
    def labels(self) -> Tensor:
        """See ``Samples``."""
        return torch.cat([self.first.labels, self.second.labels])

    def images(self, numbers: Tensor) -> Tensor:
        """See ``Samples``."""
        count = len(self.first.labels)
        early = numbers < count
        found: list[Tensor] = []
        if early.any():
            found.append(self.first.images(numbers[early]))
        if not early.all():
            found.append(self.second.images(numbers[~early] - count))
        order = torch.cat([early.nonzero(), (~early).nonzero()]).reshape(-1).argsort()
        return torch.cat(found)[order]

    def digest(self) -> str:
        """See ``Samples``."""
        return hashlib.sha256((self.first.digest() + self.second.digest()).encode()).hexdigest()


def wrapped(dataset: Any) -> Wrapped:
    """Takes a data set of (x, y), reading every label once.

    Raises:
        UserError: it is empty, or an item is not such a pair.
    """
    try:
        labels = [_whole(dataset[n][1]) for n in range(len(dataset))]
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise UserError(
            f"The data set does not hold pairs (x, y) with whole-number labels ({error}): wrap it "
            "in one that does."
        ) from error
    if not labels:
        raise UserError("The data set is empty: give one that holds images.")
    return Wrapped(dataset, torch.tensor(labels))


def _whole(label: Any) -> int:
    """
    Raises:
        ValueError: not a whole number.
    """
    found = int(label)
    if found != label:
        raise ValueError(f"{label} is none")
    return found


@dataclass(frozen=True, eq=False)
class Axis:
    """One way to name every sample, such as its object or its style.

    Attributes:
        names: of the values.
        train, test: int64 (N,) each, of the training and the test samples.
    """

    names: tuple[str, ...]
    train: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class Data:
    """A data set with its own test samples, checked when it is made.

    Attributes:
        spec: as the user named it.
        train, test: which share no sample.
        classes: names of the K labels, in order.
        axes: by name, the label's own among them where there is another one beside it.
        training: what is usual for a small network on it.
    """

    spec: str
    train: Samples
    test: Samples
    classes: tuple[str, ...]
    axes: Mapping[str, Axis] = field(default_factory=dict)
    training: Training = field(default_factory=Training)

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len({*self.classes}) < len(self.classes):
            named = few(self.classes)
            raise UserError(
                f"{self.spec} has the classes {named}: give data with two or more, each with a "
                "name of its own."
            )
        for which, samples in (("training", self.train), ("test", self.test)):
            if not len(samples.labels):
                raise UserError(f"{self.spec} has no {which} samples: give data with some.")
            check_labels(samples.labels, self.classes, f"A {which} sample of {self.spec}")

    def digest(self) -> str:
        """Hex SHA-256 of all samples, by which a split knows its data; read once."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        parts = [self.train.digest(), self.test.digest(), *self.classes]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def shape(self) -> tuple[int, int]:
        """Channels and side of the images, px; those of the first one."""
        _, channels, _, side = self.train.images(torch.tensor([0])).shape
        return int(channels), int(side)

    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the training images, in [0, 1].

        Over ``LOOKED_AT`` of them at most, the same ones whatever the split. The deviation is one
        step of 8 bits or more, to be divided by.
        """
        count = len(self.train.labels)
        looked = min(count, LOOKED_AT)
        sums = torch.zeros(2, self.shape()[0], dtype=torch.float64)
        pixels = 0
        for part in (torch.arange(looked) * count // looked).split(64):
            x = self.train.images(part).double()
            sums += torch.stack([x.sum((0, 2, 3)), x.square().sum((0, 2, 3))])
            pixels += x.numel() // x.shape[1]
        mean = sums[0] / pixels
        std = (sums[1] / pixels - mean.square()).clamp(min=0).sqrt().clamp(min=1 / 255)
        return tuple(mean.tolist()), tuple(std.tolist())


def check_labels(labels: Sequence[int] | Tensor, classes: Sequence[str], where: str) -> None:
    """Refuses labels that have no name.

    Raises:
        UserError: naming the first one.
    """
    found = torch.as_tensor(labels)
    outside = found[(found < 0) | (found >= len(classes))]
    if len(outside):
        raise UserError(
            f"{where} has the label {int(outside[0])}, but there are {len(classes)} classes: "
            f"number them from 0 to {len(classes) - 1}."
        )
