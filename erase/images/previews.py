"""Previews on disk: what they show, and after which step."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER, RECORD = "previews", "previews.json"


@dataclass(frozen=True)
class Shown:
    """One of the pictures: its prompt, the seed of its noise, and ``forget`` or ``retain``."""

    prompt: str
    seed: int
    role: str


def read_previews(run: Path) -> list[tuple[Shown, list[tuple[int, Path]]]]:
    """Each picture's prompt with its files by step; none where none were drawn."""
    folder = run / FOLDER
    with suppress(OSError, ValueError, KeyError, TypeError):
        told: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        shown = [Shown(**one) for one in told["images"]]
        places = sorted(folder.glob("step-*"))
        found = [
            (one, [(int(place.name[5:]), place / f"{i}.png") for place in places])
            for i, one in enumerate(shown)
        ]
        return [(one, [(s, f) for s, f in files if f.is_file()]) for one, files in found]
    return []
