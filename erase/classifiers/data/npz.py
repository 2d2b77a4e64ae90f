"""Arrays in a .npz file: x_train, y_train, x_test, y_test and, optionally, classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from erase.classifiers.data._files import arrays
from erase.classifiers.samples import Data
from erase.runtime.errors import UserError, few, reason

PLACE = "FILE"
NEEDED = ("x_train", "y_train", "x_test", "y_test")


def read(place: str) -> Data:
    """See ``classifiers.data``.

    Images are uint8 (N, S, S) or, channels last, (N, S, S, C) with C from 1 to 4; labels are whole
    numbers (N,) or (N, 1) from 0 on; ``classes`` are their names (K,), without which they are
    called by their numbers.
    """
    file = Path(place).expanduser()
    found = _content(file)
    train, test = (_checked(file, found, part) for part in ("train", "test"))
    if train[0].shape[1:] != test[0].shape[1:]:
        raise UserError(
            f"{file} has training images of {train[0].shape[1:]} and test images of "
            f"{test[0].shape[1:]}: make them one size."
        )
    if "classes" in found:
        classes = tuple(str(name) for name in found["classes"].reshape(-1))
    else:
        most = int(max(train[1].max(), test[1].max()))
        if most >= len(train[1]):
            raise UserError(
                f"{file} has the label {most} for {len(train[1])} training images: number the "
                "classes from 0 on."
            )
        classes = tuple(map(str, range(1 + most)))
    return Data(spec=f"npz@{place}", train=arrays(*train), test=arrays(*test), classes=classes)


def _content(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as opened:
            names = [name for name in (*NEEDED, "classes") if name in opened]
            found = {name: opened[name] for name in names}
    except Exception as error:  # whatever a damaged file makes the library raise
        raise UserError(
            f"{file} can't be read as a .npz file of plain arrays ({reason(error)}): save one "
            "with numpy.savez."
        ) from error
    if missing := [name for name in NEEDED if name not in found]:
        raise UserError(f"{file} lacks {few(missing, 4)}: save all of {few(NEEDED, 4)}.")
    return found


def _checked(file: Path, found: dict[str, np.ndarray], part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of a part."""
    x, y = found[f"x_{part}"], found[f"y_{part}"]
    shape = x.shape if x.ndim == 4 else (*x.shape, 1)
    if len(shape) != 4 or not shape[1] == shape[2] or not 1 <= shape[3] <= 4 or x.dtype != np.uint8:
        raise UserError(
            f"x_{part} of {file} is {x.shape} of {x.dtype}: save square images as uint8, 0 to 255, "
            "of shape (N, S, S) or, channels last, (N, S, S, C)."
        )
    if y.size != len(x) or y.dtype.kind not in "iu":
        raise UserError(
            f"y_{part} of {file} is {y.shape} of {y.dtype}: save {len(x)} whole numbers, one for "
            "each image."
        )
    if not len(x):
        raise UserError(f"x_{part} of {file} is empty: save at least one image.")
    return x, y.reshape(-1)
