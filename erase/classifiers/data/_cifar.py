"""The binary version of CIFAR-10 and CIFAR-100: records of labels and 3 x 32 x 32 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from erase.classifiers.data._files import PAPER, arrays, folder_with, read_bytes
from erase.classifiers.samples import Arrays, Data
from erase.runtime.errors import UserError
from erase.runtime.tables import read_text

SIDE = 32
PIXELS = 3 * SIDE * SIDE


def read_cifar(
    name: str,
    place: str,
    train: Sequence[str],
    test: str,
    names: str,
    *,
    labels: int,
    inside: str,
    pickled: Sequence[str],
) -> Data:
    """Reads the data set; the last label of each record counts.

    Args:
        name: of the data set.
        place: its folder, or the one around it.
        train, test, names: files of samples and of the classes' names.
        labels: bytes in front of the pixels.
        inside: the folder that the archive unpacks to.
        pickled: what the version that is not read has in its place.

    Raises:
        UserError: the other version, a file missing or cut short, a label without a name.
    """
    folder = Path(place).expanduser()
    if not (folder / train[0]).exists() and any((folder / other).exists() for other in pickled):
        raise UserError(
            f"{folder} holds the Python version of {name}, which is pickled and is not opened: "
            f"give the folder of the binary version ({inside})."
        )
    folder = folder_with(place, [*train, test, names], f"the binary version of {name}", inside)
    lines = read_text(folder / names, "The list of classes").splitlines()
    parts = [_records(folder / file, labels) for file in train]
    return Data(
        spec=f"{name}@{place}",
        train=_samples(np.concatenate(parts), labels),
        test=_samples(_records(folder / test, labels), labels),
        classes=tuple(line.strip() for line in lines if line.strip()),
        training=PAPER,
    )


def _records(file: Path, labels: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """uint8 (N, labels + PIXELS)."""
    content, size = read_bytes(file), labels + PIXELS
    if not content or len(content) % size:
        raise UserError(
            f"{file} has {len(content):,} bytes, which is not a whole number of records of "
            f"{size:,}: fetch it again."
        )
    return np.frombuffer(content, np.uint8).reshape(-1, size)


def _samples(records: np.ndarray[tuple[int, int], np.dtype[np.uint8]], labels: int) -> Arrays:
    images = records[:, labels:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return arrays(images, records[:, labels - 1])
