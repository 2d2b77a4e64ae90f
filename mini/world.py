"""The miniature world: twelve drawn objects in four styles, with captions.

Everything is drawn from a seed: ``render(object, style, seed, split)`` is one picture, and the
splits never share random draws, so that a judge is never tested on the pictures that the
generator learned from.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
ICONS = HERE / "icons.json"
SIZE = 64
"""Side of every picture, in pixels."""

Split = Literal["generator", "judge", "heldout", "heldout2"]
_SPLITS: tuple[Split, ...] = ("generator", "judge", "heldout", "heldout2")


@dataclass(frozen=True)
class Object:
    """One of the twelve objects; ``tuning`` ones never appear in a table."""

    label: str
    word: str
    icon: str
    tuning: bool = False


@dataclass(frozen=True)
class Style:
    """One of the four drawing styles and the npm package it comes from."""

    label: str
    package: str


OBJECTS = (
    Object("tropical-fish", "tropical fish", "tropical-fish"),
    Object("dog-face", "dog face", "dog-face"),
    Object("church", "church", "church"),
    Object("trumpet", "trumpet", "trumpet"),
    Object("truck", "truck", "articulated-lorry"),
    Object("fuel-pump", "fuel pump", "fuel-pump"),
    Object("parachute", "parachute", "parachute"),
    Object("carpentry-saw", "carpentry saw", "carpentry-saw"),
    Object("radio", "radio", "radio"),
    Object("golf-flag", "golf flag", "flag-in-hole"),
    Object("owl", "owl", "owl", tuning=True),
    Object("locomotive", "locomotive", "locomotive", tuning=True),
)
STYLES = (
    Style("noto", "noto"),
    Style("twemoji", "twemoji"),
    Style("flat", "fluent-emoji-flat"),
    Style("ink", "fluent-emoji-high-contrast"),
)
OBJECT_LABELS = tuple(o.label for o in OBJECTS)
STYLE_LABELS = tuple(s.label for s in STYLES)

TEMPLATES = (
    "a {style} drawing of a {object}",
    "a {style} picture of a {object}",
    "a {style} icon of a {object}",
    "a {style} emoji of a {object}",
    "a {style} sticker of a {object}",
    "a small {style} {object}",
    "a {object}, {style} style",
    "a {object} in {style} style",
    "a {object} drawn in {style}",
    "a {object} as a {style} icon",
    "the {object}, a {style} drawing",
    "one {object} in the {style} style",
    "{style} art of a {object}",
    "{style} {object}",
    "{object}, {style}",
    "an image of a {object} in {style} style",
    "a nice {style} illustration of the {object}",
    "this is a {style} drawing of one {object}",
)
"""Prompt templates that the generator learned from."""

HELD_OUT_TEMPLATES = (
    "a {style} image of a {object}",
    "a {style} illustration of a {object}",
    "a picture of a {object} in the {style} style",
    "the {object} in {style} style",
    "a {object}, drawn as a {style} emoji",
)
"""Prompt templates that nothing was trained on; the evaluation set is made of them."""

PLAIN_TEMPLATES = (
    "a drawing of a {object}",
    "a picture of a {object}",
    "an icon of a {object}",
    "a {object}",
    "{object}",
    "an image of a {object}",
)
"""Templates that leave the style open."""

STYLE_TEMPLATES = (
    "{style}",
    "{style} style",
    "a {style} drawing",
    "a {style} picture",
    "an image in {style} style",
    "drawn in {style}",
)
"""Templates that leave the object open; the tiny CLIP learns styles from them."""


def caption(template: str, obj: str = "", style: str = "") -> str:
    """Fills a template with the word of an object label and a style label, articles put right."""
    word = next((o.word for o in OBJECTS if o.label == obj), "")
    words = template.format(object=word, style=style).split()
    for i, article in enumerate(words[:-1]):
        if article in ("a", "an"):
            words[i] = "an" if words[i + 1][0] in "aeiou" else "a"
    return " ".join(words)


@cache
def _icons() -> dict[str, dict[str, dict[str, object]]]:
    return json.loads(ICONS.read_text())  # type: ignore[no-any-return]


def _rng(split: Split, obj: str, style: str, seed: int) -> np.random.Generator:
    key = (_SPLITS.index(split), OBJECT_LABELS.index(obj), STYLE_LABELS.index(style), seed)
    return np.random.default_rng(key)


SIDE, ANGLE = (0.68, 0.90), (-10.0, 10.0)
HUE, SATURATION, LIGHTNESS = (0.0, 360.0), (10.0, 90.0), (84.0, 96.0)
"""Ranges that the attributes of ``Placement`` are drawn from, uniformly."""


@dataclass(frozen=True)
class Placement:
    """How a drawing stands in its picture.

    Attributes:
        side: of the square box that the drawing fills, px; ``SIDE`` as a share of the picture's.
        x, y: the box's centre, px from the picture's upper left corner; anywhere that leaves the
            whole box, before it is rotated, inside the picture.
        angle: degrees clockwise.
        mirror: -1 for left and right swapped, or 1; each in one half of the pictures.
        hue, saturation, lightness: of the background, degrees and two percentages.
    """

    side: float
    x: float
    y: float
    angle: float
    mirror: int
    hue: float
    saturation: float
    lightness: float


def place(obj: str, style: str, seed: int, split: Split = "generator") -> Placement:
    """The placement that ``render`` draws with."""
    rng = _rng(split, obj, style, seed)
    side = SIZE * rng.uniform(*SIDE)
    margin = (SIZE - side) / 2
    x, y = SIZE / 2 + rng.uniform(-margin, margin, 2)
    angle = rng.uniform(*ANGLE)
    mirror = -1 if rng.random() < 0.5 else 1
    colour = (rng.uniform(*law) for law in (HUE, SATURATION, LIGHTNESS))
    return Placement(side, x, y, angle, mirror, *colour)


def draw(obj: str, style: str, at: Placement) -> NDArray[np.uint8]:
    """Draws one object.

    Returns:
        uint8 array of shape (64, 64, 3), RGB.
    """
    import resvg_py
    from PIL import Image

    icon = _icons()[style][obj]
    box = float(str(icon["size"]))
    scale = at.side / box
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}" color="black">'
        f'<rect width="{SIZE}" height="{SIZE}" '
        f'fill="hsl({at.hue:.2f},{at.saturation:.2f}%,{at.lightness:.2f}%)"/>'
        f'<g transform="translate({at.x:.3f} {at.y:.3f}) rotate({at.angle:.3f}) '
        f'scale({at.mirror * scale:.5f} {scale:.5f}) translate({-box / 2} {-box / 2})">'
        f"{icon['body']}</g></svg>"
    )
    # No drawing has text, and looking for the system's fonts takes longer than the drawing.
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def render(obj: str, style: str, seed: int, split: Split = "generator") -> NDArray[np.uint8]:
    """Draws one object at a random place, size, rotation, mirroring and pastel background.

    Args:
        obj: an object label.
        style: a style label.
        seed: number of the draw within the split, >= 0.
        split: which family of random draws; families are independent of each other.

    Returns:
        uint8 array of shape (64, 64, 3), RGB.
    """
    return draw(obj, style, place(obj, style, seed, split))
