"""Pictures on disk with what they should show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erase.images.files import MANIFEST
from erase.runtime.errors import UserError
from erase.runtime.files import sha256

UNKNOWN_SEED = -1
"""Seed of a picture that no manifest lists: a set says what was asked for, not what was used."""


def is_unknown(picture: Picture) -> bool:
    """Whether nothing says what a picture was made from; its prompt is not the empty one."""
    return (
        bool(picture.set) and picture.file.as_posix().endswith(picture.set) and not picture.prompt
    )


def _unknown(path: Path) -> Picture:
    return Picture(path, "", path.as_posix(), 0, 0, "", UNKNOWN_SEED, "retain", {})


@dataclass(frozen=True)
class Picture:
    """An image on disk and what it should show; see ``manifest.jsonl``.

    Attributes:
        file: where it lies.
        sha256: of the file's bytes.
        set, case_number, k: prompt set, its row, number of the image within the row.
        prompt, seed: what it was made from.
        role: ``forget``, ``retain`` or one of ``prompts.groups.GROUPS``.
        labels: what it should show, by axis.
    """

    file: Path
    sha256: str
    set: str
    case_number: int
    k: int
    prompt: str
    seed: int
    role: str
    labels: Mapping[str, str]

    @property
    def key(self) -> tuple[str, int, int]:
        """The same on every side of a comparison."""
        return self.set, self.case_number, self.k


def read_pictures(folder: Path) -> list[Picture]:
    """The images that a folder's manifest lists.

    Raises:
        UserError: no manifest, or an image that is missing or is not the one listed.
    """
    from erase.images.files import read_manifest

    pictures = []
    for row in read_manifest(folder):
        facts: dict[str, Any] = dict(row)
        file = folder / facts["file"]
        if not file.is_file():
            raise UserError(f"{file} is missing, though {folder / MANIFEST} lists it.")
        if sha256(file) != facts["sha256"]:
            raise UserError(
                f"{file} is not the image that {folder / MANIFEST} lists: delete it and make the "
                "images again."
            )
        names = ("sha256", "set", "case_number", "k", "prompt", "seed", "role", "labels")
        pictures.append(Picture(file, **{name: facts[name] for name in names}))
    return pictures
