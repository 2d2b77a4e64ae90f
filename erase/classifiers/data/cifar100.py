"""CIFAR-100 in its binary version: 50,000 photos of a hundred classes, 32 px."""

from __future__ import annotations

from erase.classifiers.data._cifar import read_cifar
from erase.classifiers.samples import Data

PLACE = "DIR"


def read(place: str) -> Data:
    """See ``classifiers.data``; labels are the fine ones."""
    return read_cifar(
        "cifar100",
        place,
        ("train.bin",),
        "test.bin",
        "fine_label_names.txt",
        labels=2,
        inside="cifar-100-binary",
        pickled=("train", "meta", "cifar-100-python"),
    )
