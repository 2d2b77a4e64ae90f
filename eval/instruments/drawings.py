"""Reads from an image of the bundled drawn world how it was drawn: the inverse of
``erase.mini.world.draw``.

The plain background is what is connected to the border and has its colour; the rest, closed and
filled, is the drawing's shape, which is laid over the shape of the same drawing, upright. Its
size gives the side of the box, its centre of mass the centre, and the angle and mirroring at which
the two shapes overlap best are the drawing's.
"""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from erase.mini.world import (
    ANGLE,
    HUE,
    LIGHTNESS,
    OBJECT_LABELS,
    SATURATION,
    SIDE,
    SIZE,
    STYLE_LABELS,
    Placement,
    draw,
)

NEAR = 10
"""Steps of 255 by which a background pixel may differ from the border's median, per channel."""
GROUND = 0.1
"""Share of the image that its background takes up at least."""
CLOSED = 3
"""Radius in px of the gaps in an outline that are closed: thin and pale lines have some."""
LEAST = 0.8
"""Overlap of the two shapes, intersection over union, below which nothing can be read of the
drawing."""
TOLD = 0.03
"""By how much the better mirroring must overlap more: of drawings that are nearly symmetric it
can't be read."""
UPRIGHT = Placement(0.79 * SIZE, SIZE / 2, SIZE / 2, 0.0, 1, 120.0, 10.0, 90.0)
"""How the shape to compare with is drawn."""
COARSE, FINE = np.arange(-15.0, 16.0, 3.0), np.arange(-2.0, 2.5, 0.5)
"""Angles that are tried, in degrees, and then around the best of them."""

LAWS = {"side": SIDE, "angle": ANGLE, "hue": HUE, "saturation": SATURATION, "lightness": LIGHTNESS}
"""Ranges that drawings are drawn from, uniformly, in the units of ``Reading``."""
FACTS = {"near": NEAR, "ground": GROUND, "closed": CLOSED, "overlap": LEAST, "mirrored_by": TOLD}
"""What readings depend on besides the image and its labels."""

EXAMPLE = (OBJECT_LABELS[0], STYLE_LABELS[0])

Image = NDArray[np.uint8]
Outline = NDArray[np.bool_]


@dataclass(frozen=True)
class Reading:
    """What an image shows; what can't be read is None.

    Attributes:
        overlap: of the image's shape with the drawing's, in [0, 1].
        hue, saturation, lightness: of the background, degrees and two percentages.
        side: of the drawing's box, as a share of the picture's.
        x, y: of its centre, as shares of the picture's side from the upper left corner.
        angle: degrees clockwise.
        mirror: -1 for left and right swapped, or 1.
    """

    overlap: float = 0.0
    hue: float | None = None
    saturation: float | None = None
    lightness: float | None = None
    side: float | None = None
    x: float | None = None
    y: float | None = None
    angle: float | None = None
    mirror: int | None = None


def example() -> Image:
    """A drawing of ``EXAMPLE``."""
    return draw(*EXAMPLE, UPRIGHT)


def known(obj: str, style: str) -> bool:
    """Whether two labels are the drawn world's."""
    return obj in OBJECT_LABELS and style in STYLE_LABELS


def read(image: Image, obj: str, style: str) -> Reading:
    """Reads one image.

    Args:
        image: RGB (64, 64, 3); of one of another size nothing can be read.
        obj, style: labels of the drawing that it should show.
    """
    if image.shape != (SIZE, SIZE, 3):
        return Reading()
    ground = _ground(image)
    if ground.mean() < GROUND:
        return Reading()
    inner = ndimage.binary_erosion(ground, border_value=1)
    colour = image[inner if inner.any() else ground].mean(0) / 255
    hue, light, saturation = colorsys.rgb_to_hls(*colour.tolist())
    found = Reading(0.0, 360 * hue, 100 * saturation, 100 * light)
    outline = _filled(~ground)
    if not outline.any():
        return found
    shape, model = _Shape.of(outline), _upright(obj, style)
    side = UPRIGHT.side * math.sqrt(shape.area / model.area)
    fits = {mirror: _fit(shape, model, side, mirror) for mirror in (1, -1)}
    mirror = max(fits, key=lambda m: fits[m].overlap)
    best, other = fits[mirror], fits[-mirror]
    found = replace(found, overlap=best.overlap)
    if best.overlap < LEAST:
        return found
    return replace(
        found,
        side=side / SIZE,
        x=best.x / SIZE,
        y=best.y / SIZE,
        angle=best.angle,
        mirror=mirror if best.overlap - other.overlap > TOLD else None,
    )


def _ground(image: Image) -> Outline:
    """The plain background: connected to the border and of its colour."""
    x = image.astype(np.int16)
    border = np.concatenate([x[0], x[-1], x[1:-1, 0], x[1:-1, -1]])
    near = np.abs(x - np.median(border, 0)).max(2) <= NEAR
    parts, _ = ndimage.label(near)
    outer = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
    return np.isin(parts, outer[outer > 0])


def _filled(outline: Outline) -> Outline:
    """Without gaps in the outline and without holes."""
    r = CLOSED
    disc = np.hypot(*np.mgrid[-r : r + 1, -r : r + 1]) < r + 0.5
    closed = ndimage.binary_closing(np.pad(outline, r), disc)[r:-r, r:-r]
    found: Outline = ndimage.binary_fill_holes(closed)
    return found


class _Shape(NamedTuple):
    """A filled outline, its area in px², and its centre of mass (x, y)."""

    pixels: NDArray[np.float32]
    area: float
    mass: NDArray[np.float64]

    @classmethod
    def of(cls, outline: Outline) -> _Shape:
        y, x = np.nonzero(outline)
        mass = np.array([x.mean() + 0.5, y.mean() + 0.5])
        return cls(outline.astype(np.float32), float(outline.sum()), mass)


@cache
def _upright(obj: str, style: str) -> _Shape:
    return _Shape.of(_filled(~_ground(draw(obj, style, UPRIGHT))))


class _Fit(NamedTuple):
    """An angle, and the centre of the box, at which a drawing covers a shape."""

    overlap: float
    angle: float
    x: float
    y: float


def _fit(shape: _Shape, model: _Shape, side: float, mirror: int) -> _Fit:
    """The best fit, among all angles on every second pixel and then around the best of them."""
    rough = max(_laid(shape, model, side, mirror, angle, 2) for angle in COARSE)
    return max(_laid(shape, model, side, mirror, rough.angle + more, 1) for more in FINE)


def _laid(shape: _Shape, model: _Shape, side: float, mirror: int, angle: float, step: int) -> _Fit:
    """The drawing laid over a shape with their centres of mass on each other.

    Args:
        side: of the drawing's box, px.
        mirror, angle: see ``Reading``.
        step: 1 compares every pixel, 2 every second row and column.
    """
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    scale = side / UPRIGHT.side
    turn = np.array([[cos, -sin], [sin, cos]]) * [mirror, 1]  # orthogonal
    x, y = shape.mass - scale * turn @ (model.mass - SIZE / 2)
    back = turn.T[::-1, ::-1] / scale  # rows and columns
    start = back @ (0.5 - np.array([y, x])) + SIZE / 2 - 0.5
    seen = shape.pixels[::step, ::step]
    drawn = ndimage.affine_transform(model.pixels, back * step, start, seen.shape, order=1)
    overlap = np.minimum(drawn, seen).sum() / np.maximum(drawn, seen).sum()
    return _Fit(float(overlap), float(angle), float(x), float(y))
