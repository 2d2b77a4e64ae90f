"""Your own images in DIR/train/CLASS and DIR/test/CLASS, or in DIR/CLASS alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from erase.classifiers.samples import Data
from erase.images.files import image_files, read_image
from erase.runtime.errors import UserError, few
from erase.runtime.files import is_hidden, sha256
from erase.runtime.seeding import generator

PLACE = "DIR"
SIDE = 64
"""Pixels that images are resized to, their centre cropped to a square; ``DIR:SIDE`` asks for
others."""
SIDES = (8, 1024)
TEST = ("test", "val")
"""What the folder of test images may be called."""
SHARE = 0.2
"""Of each class that is held out to test where no such folder is."""
KEPT = 512 * 2**20
"""Bytes of images that are kept in memory once they were read."""


@dataclass(frozen=True, eq=False)
class Files:
    """Images on disk, read when they are needed.

    Attributes:
        files: of the images.
        labels: int64 (N,).
        side: px they are resized and cropped to.
    """

    files: tuple[Path, ...]
    labels: Tensor
    side: int
    kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict)

    def images(self, numbers: Tensor) -> Tensor:
        """See ``Samples``; RGB.

        Raises:
            UserError: a file can't be read.
        """
        read = np.stack([self._image(int(number)) for number in numbers])
        return torch.from_numpy(read).permute(0, 3, 1, 2).float() / 255

    def _image(self, number: int) -> NDArray[np.uint8]:
        found = self.kept.get(number)
        if found is None:
            found = read_image(self.files[number], self.side)
            if (len(self.kept) + 1) * found.nbytes <= KEPT:
                self.kept[number] = found
        return found

    def digest(self) -> str:
        """See ``Samples``; of the files' bytes, in order."""
        found = hashlib.sha256(str(self.side).encode())
        for file in self.files:
            found.update(sha256(file).encode())
        found.update(self.labels.contiguous().numpy().data)
        return found.hexdigest()


def read(place: str) -> Data:
    """See ``classifiers.data``; classes are numbered in the order of their names."""
    folder, side = _parsed(place)
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: give one that has a folder for each class.")
    beside = [folder / name for name in TEST if (folder / name).is_dir()]
    if (folder / "train").is_dir() and (_classes(folder / "train") or beside):
        if not beside:
            raise UserError(
                f"{folder} has train and no test beside it: add test, with the same classes."
            )
        train, test = _files(folder / "train"), _files(beside[0])
        if [*train] != [*test]:
            raise UserError(
                f"{folder / 'train'} and {beside[0]} differ in the classes "
                f"{few(sorted({*train} ^ {*test}))}: give both the same folders."
            )
    else:
        train, test = _parted(_files(folder), folder)
    return Data(
        spec=f"imagefolder@{place}",
        train=_samples(train, side),
        test=_samples(test, side),
        classes=tuple(train),
    )


def _parsed(place: str) -> tuple[Path, int]:
    """The folder, and the side of its images."""
    folder = Path(place).expanduser()
    found = re.fullmatch(r"(.+):(\d{1,9})", place)
    if found is None or folder.is_dir():
        return folder, SIDE
    side = int(found[2])
    if not SIDES[0] <= side <= SIDES[1]:
        raise UserError(
            f"'{place}' asks for images of {side} px: give a side from {SIDES[0]} to {SIDES[1]}."
        )
    return Path(found[1]).expanduser(), side


def _classes(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.is_dir() and not is_hidden(f))


def _files(folder: Path) -> dict[str, list[Path]]:
    """The images of each class."""
    classes = _classes(folder)
    if len(classes) < 2:
        raise UserError(
            f"{folder} has {len(classes)} folders: give one that has a folder for each of two or "
            "more classes."
        )
    return {place.name: image_files(place) for place in classes}


def _parted(
    files: Mapping[str, Sequence[Path]], folder: Path
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """A fixed part to train on and one to test on, of each class."""
    train: dict[str, list[Path]] = {}
    test: dict[str, list[Path]] = {}
    for name, own in files.items():
        if len(own) < 2:
            raise UserError(
                f"{folder / name} has one image: give two or more, of which a fifth is held out to "
                "test."
            )
        order = torch.randperm(len(own), generator=generator("imagefolder", name)).tolist()
        count = max(1, int(SHARE * len(own)))
        test[name] = sorted(own[place] for place in order[:count])
        train[name] = sorted(own[place] for place in order[count:])
    return train, test


def _samples(files: Mapping[str, Sequence[Path]], side: int) -> Files:
    labels = [label for label, own in enumerate(files.values()) for _ in own]
    return Files(tuple(file for own in files.values() for file in own), torch.tensor(labels), side)
