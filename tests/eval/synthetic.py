"""A run folder whose images anyone can read: the colour is the object, a corner is the style."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erase.eval.instruments.judges import Answer, Pixels
from erase.prompts.concept import Concept
from erase.runtime.files import sha256

COLOURS = {
    "church": (200, 40, 40),
    "truck": (40, 160, 60),
    "radio": (40, 60, 200),
    "trumpet": (220, 200, 40),
}
CORNERS = {"flat": (255, 255, 255), "ink": (0, 0, 0)}

CHURCH = Concept(
    name="squares/church",
    kind="object",
    word="church",
    axis="object",
    label="church",
    evaluation="squares",
)
TRUCK = Concept(name="squares/truck", kind="object", word="truck", axis="object", label="truck")


@dataclass
class ColourJudge:
    """Reads one pixel; counts how many images it was shown."""

    labels: tuple[str, ...]
    table: Mapping[str, tuple[int, int, int]]
    pixel: tuple[int, int]
    spec: str = "colour"
    facts: Mapping[str, Any] = field(default_factory=dict)
    seen: int = 0

    def classify(self, images: Sequence[Pixels]) -> list[Answer]:
        self.seen += len(images)
        found = {self.table[label]: label for label in self.labels}
        return [(found[tuple(np.asarray(im)[self.pixel].tolist())], 0.75) for im in images]


def judges() -> dict[str, ColourJudge]:
    return {
        "object": ColourJudge(tuple(COLOURS), COLOURS, (4, 4), "colour of the centre"),
        "style": ColourJudge(tuple(CORNERS), CORNERS, (0, 0), "colour of the corner"),
    }


@dataclass
class ColourFeatures:
    """Mean colour: three features."""

    name: str = "colour"
    dimensions: int = 3
    facts: Mapping[str, Any] = field(default_factory=dict)
    seen: int = 0

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.seen += len(images)
        return np.stack([np.asarray(im, np.float32).mean((0, 1)) / 255 for im in images])


Shown = tuple[str, str, str, str]
"""What is asked for (object, style) and what the image shows (object, style)."""


def asked(role: str, shown: Sequence[Shown], seed: int) -> list[tuple[str, Shown, int]]:
    return [(role, s, seed + i) for i, s in enumerate(shown)]


def write_side(folder: Path, rows: Sequence[tuple[str, Shown, int]], first: int = 0) -> None:
    """Images and manifest of one side, the cases numbered from ``first``."""
    folder.mkdir(parents=True)
    lines = []
    for number, (role, (obj, style, shows, in_style), seed) in enumerate(rows, first):
        pixels = np.full((8, 8, 3), COLOURS[shows], np.uint8)
        pixels[0, 0] = CORNERS[in_style]
        pixels[7] = number  # no two images are the same file
        pixels[6] = seed % 251
        file = folder / f"{number:05d}_0.png"
        Image.fromarray(pixels).save(file)
        row = {
            "file": file.name,
            "set": folder.name,
            "case_number": number,
            "k": 0,
            "prompt": f"a {style} {obj} <{number}>",
            "seed": seed,
            "role": role,
            "labels": {"object": obj, "style": style, "tuning": "0"},
            "sha256": sha256(file),
        }
        lines.append(json.dumps(row) + "\n")
    (folder / "manifest.jsonl").write_text("".join(lines))


def right(obj: str, count: int, style: str = "flat") -> list[Shown]:
    return [(obj, style, obj, style)] * count


def wrong(obj: str, shows: str, count: int, style: str = "flat") -> list[Shown]:
    return [(obj, style, shows, style)] * count


# The table that the tests expect, counted by hand:
#                         base                          erased
#   church (forget, 10)   10 church                     8 truck, 1 radio, 1 church
#   truck (4)             4 right                       4 right
#   radio (4)             4 right                       2 right, 2 truck
#   trumpet (4)           3 right, 1 radio              4 right
#   style (12 retained)   12 right                      11 right, 1 flat seen as ink
KEPT_BASE = [
    *right("truck", 4),
    *right("radio", 4, "ink"),
    *right("trumpet", 3),
    *wrong("trumpet", "radio", 1),
]
KEPT_ERASED = [
    *right("truck", 3),
    ("truck", "flat", "truck", "ink"),
    *right("radio", 2, "ink"),
    *wrong("radio", "truck", 2, "ink"),
    *right("trumpet", 4),
]
FORGET_BASE = right("church", 10)
FORGET_ERASED = [
    *wrong("church", "truck", 8),
    *wrong("church", "radio", 1),
    *right("church", 1),
]


def write_run(run: Path, **facts: Any) -> Path:
    """A run folder with images of all sides and a loss curve."""
    base = asked("forget", FORGET_BASE, 100) + asked("retain", KEPT_BASE, 200)
    erased = asked("forget", FORGET_ERASED, 100) + asked("retain", KEPT_ERASED, 200)
    for side, rows in {
        "base": base,
        "base2": asked("retain", KEPT_BASE, 700),
        "erased": erased,
    }.items():
        first = 0 if rows[0][0] == "forget" else len(FORGET_BASE)
        write_side(run / "eval" / side / "squares", rows, first)
    known = {
        "model": {"source": "squares", "fingerprint": {"denoiser": "ab" * 32}},
        "seed": 3,
        "recipe": {"name": "quick", "method": "salun", "lr": 1e-4, "guidance_scale": 3.0},
        "pairs": [["a flat church", "a flat truck"]],
        "device": "cpu",
        "stages": {"train": {"seconds": 2.5, "peak_memory_mb": 7}},
    }
    (run / "run.json").write_text(json.dumps(known | facts))
    steps = [
        {"step": i + 1, "loss": 3 / (i + 1), "forget": 2 / (i + 1), "retain": 1 / (i + 1)}
        for i in range(6)
    ]
    (run / "train.jsonl").write_text("".join(json.dumps(s) + "\n" for s in steps))
    return run
