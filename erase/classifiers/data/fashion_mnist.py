"""Fashion-MNIST, its four .gz files as they are: 60,000 grey articles of ten classes, 28 px."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from erase.classifiers.data._files import arrays, folder_with
from erase.classifiers.samples import Arrays, Data
from erase.runtime.errors import UserError, reason

PLACE = "DIR"
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
IMAGES, LABELS = 2051, 2049
"""First number of a file, by what it holds."""
SIDE = 28
PARTS = {"train": "train", "test": "t10k"}


def read(place: str) -> Data:
    """See ``classifiers.data``."""
    files = {
        part: (f"{stem}-images-idx3-ubyte.gz", f"{stem}-labels-idx1-ubyte.gz")
        for part, stem in PARTS.items()
    }
    folder = folder_with(
        place, [*files["train"], *files["test"]], "the four .gz files of Fashion-MNIST"
    )
    train, test = (_samples(folder / images, folder / labels) for images, labels in files.values())
    return Data(spec=f"fashion-mnist@{place}", train=train, test=test, classes=CLASSES)


def _samples(images: Path, labels: Path) -> Arrays:
    pixels, tags = _content(images, IMAGES, (SIDE, SIDE)), _content(labels, LABELS, ())
    if len(pixels) != len(tags):
        raise UserError(
            f"{images} has {len(pixels):,} images and {labels.name} {len(tags):,} labels: fetch "
            "both again."
        )
    return arrays(pixels, tags)


def _content(file: Path, magic: int, shape: tuple[int, ...]) -> np.ndarray:
    """uint8 (N, *shape): what follows the numbers of the head, big-endian and four bytes each."""
    count = 2 + len(shape)
    try:
        with gzip.open(file) as opened:
            content = opened.read()
        first, rows, *sides = struct.unpack(f">{count}I", content[: 4 * count])
    except (OSError, EOFError, zlib.error, struct.error) as error:
        raise UserError(f"{file} can't be read ({reason(error)}): fetch it again.") from error
    if first != magic:
        what = "images" if magic == IMAGES else "labels"
        raise UserError(
            f"{file} begins with the number {first}, not with {magic} as a file of {what} does: "
            "give the file as it was published."
        )
    body = content[4 * count :]
    size = int(np.prod(shape))
    if tuple(sides) != shape or len(body) != rows * size:
        told = " x ".join(map(str, (rows, *sides)))
        raise UserError(
            f"{file} has {len(body):,} bytes where its head states {told}"
            f"{f' and Fashion-MNIST has images of {SIDE} x {SIDE}' if shape else ''}: fetch it "
            "again."
        )
    return np.frombuffer(body, np.uint8).reshape(rows, *shape)
