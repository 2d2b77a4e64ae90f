"""What the readers of published files share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from erase.classifiers.samples import Arrays
from erase.classifiers.training import Training
from erase.runtime.errors import UserError, few, reason

PAPER = Training(
    epochs=182, lr=0.1, batch=256, weight_decay=5e-4, schedule="step", augment="crop-flip"
)
"""SalUn's for ResNet-18 on CIFAR (arXiv 2310.12508); it lowers the rate after epochs 91 and 136,
where the schedule does after 91 and 136.5."""


def folder_with(place: str, names: Sequence[str], what: str, inside: str = "") -> Path:
    """The folder that holds files.

    Args:
        place: of the user.
        names: of the files.
        what: they are, for messages.
        inside: a folder below ``place`` that may hold them instead, as archives unpack to.

    Raises:
        UserError: no such folder, or a file is missing.
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}: give the one that holds {what}.")
    if inside and (folder / inside).is_dir():
        folder = folder / inside
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise UserError(f"{folder} lacks {few(missing, 6)}: give the folder that holds {what}.")
    return folder


def read_bytes(file: Path) -> bytes:
    """A file's content.

    Raises:
        UserError: unreadable.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} can't be read ({reason(error)}).") from error


def arrays(images: NDArray[np.uint8], labels: NDArray[np.integer]) -> Arrays:
    """Samples of images (N, H, W, C) or (N, H, W) and labels (N,); both are copied."""
    if images.ndim == 3:
        images = images[..., None]
    pixels = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)).copy())
    return Arrays(pixels, torch.from_numpy(labels.astype(np.int64)))
