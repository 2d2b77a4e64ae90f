"""SVHN, its cropped digits (train_32x32.mat, test_32x32.mat): 73,257 house numbers, 32 px."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from erase.classifiers.data._files import PAPER, arrays, folder_with
from erase.classifiers.samples import Arrays, Data
from erase.runtime.errors import UserError, reason

PLACE = "DIR"
FILES = ("train_32x32.mat", "test_32x32.mat")
SIDE = 32


def read(place: str) -> Data:
    """See ``classifiers.data``; the label 10 is the digit 0."""
    folder = folder_with(place, FILES, "the cropped digits of SVHN")
    train, test = (_samples(folder / file) for file in FILES)
    return Data(
        spec=f"svhn@{place}",
        train=train,
        test=test,
        classes=tuple(map(str, range(10))),
        training=replace(PAPER, augment="none"),
    )


def _samples(file: Path) -> Arrays:
    """The images X (32, 32, 3, N) and labels y (N, 1), 1 to 10."""
    from scipy.io import loadmat

    try:
        found = loadmat(file, variable_names=["X", "y"])
        images, labels = np.asarray(found["X"]), np.asarray(found["y"])
    except Exception as error:  # whatever a damaged file makes the library raise
        raise UserError(
            f"{file} can't be read as one of SVHN's ({reason(error)}): fetch it again."
        ) from error
    count = images.shape[-1] if images.ndim == 4 else -1
    fits = images.shape == (SIDE, SIDE, 3, count) and labels.size == count > 0
    if not fits or images.dtype != np.uint8 or labels.dtype.kind not in "iu":
        raise UserError(
            f"{file} has X {images.shape} of {images.dtype} and y {labels.shape} of "
            f"{labels.dtype}: give SVHN's cropped digits, X (32, 32, 3, N) and y (N, 1) of whole "
            "numbers."
        )
    digits = labels.reshape(-1).astype(np.int64)
    if digits.min() < 1 or digits.max() > 10:
        raise UserError(
            f"{file} has labels from {digits.min()} to {digits.max()}: SVHN's go from 1 to 10, "
            "fetch it again."
        )
    return arrays(images.transpose(3, 0, 1, 2), digits % 10)
