"""CIFAR-10 in its binary version: 50,000 photos of ten classes, 32 px."""

from __future__ import annotations

from erase.classifiers.data._cifar import read_cifar
from erase.classifiers.samples import Data

PLACE = "DIR"
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))


def read(place: str) -> Data:
    """See ``classifiers.data``."""
    return read_cifar(
        "cifar10",
        place,
        TRAIN,
        "test_batch.bin",
        "batches.meta.txt",
        labels=1,
        inside="cifar-10-batches-bin",
        pickled=("data_batch_1", "batches.meta", "cifar-10-batches-py"),
    )
