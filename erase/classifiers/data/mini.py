"""The bundled drawn world, rendered on the spot: twelve objects in four styles, 32 px."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from erase.classifiers.samples import Arrays, Axis, Data
from erase.classifiers.training import Training
from erase.runtime.errors import UserError, clipped, nearest

PLACE = "style"
AXES = ("object", "style")
TRAIN, TEST = 40, 20
"""Drawings of each object in each style."""
SIDE = 32


def read(place: str) -> Data:
    """See ``classifiers.data``; labelled by object, or by style with ``mini@style``."""
    from erase.mini.world import OBJECT_LABELS, STYLE_LABELS

    by = place or AXES[0]
    if by not in AXES:
        raise UserError(
            f"mini is not labelled by '{clipped(by)}': give mini or mini@style.{nearest(by, AXES)}"
        )
    names = {"object": OBJECT_LABELS, "style": STYLE_LABELS}
    train, test = _numbers(TRAIN), _numbers(TEST)
    order = sorted(AXES, key=lambda axis: axis != by)
    axes = {axis: Axis(names[axis], train[axis], test[axis]) for axis in order}
    return Data(
        spec=f"mini@{place}" if place else "mini",
        train=Arrays(_drawn("generator", TRAIN), train[by]),
        test=Arrays(_drawn("heldout", TEST), test[by]),
        classes=names[by],
        axes=axes,
        training=Training(epochs=10),
    )


def _numbers(each: int) -> dict[str, Tensor]:
    """Object and style of every drawing, in the order in which they are drawn."""
    from erase.mini.world import OBJECTS, STYLES

    cells = torch.cartesian_prod(torch.arange(len(OBJECTS)), torch.arange(len(STYLES)))
    return dict(zip(AXES, cells.repeat_interleave(each, 0).unbind(1), strict=True))


@cache
def _drawn(split: Literal["generator", "heldout"], each: int) -> Tensor:
    """uint8 (N, 3, SIDE, SIDE): each pixel the mean of the four that it stands for."""
    from erase.mini.world import OBJECT_LABELS, SIZE, STYLE_LABELS, render

    keys = product(OBJECT_LABELS, STYLE_LABELS, range(each), [split])
    with ThreadPoolExecutor() as pool:  # drawing leaves Python to itself
        drawings = np.stack(list(pool.map(lambda key: render(*key), keys)))
    step = SIZE // SIDE
    cells = drawings.reshape(len(drawings), SIDE, step, SIDE, step, 3)
    means = cells.mean((2, 4), dtype=np.float32).round().astype(np.uint8)
    return torch.from_numpy(means.transpose(0, 3, 1, 2).copy())
