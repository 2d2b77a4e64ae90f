"""Images on disk, and the manifest that lists them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erase.runtime.errors import UserError, reason
from erase.runtime.files import is_hidden, is_text
from erase.runtime.tables import json_lines

if TYPE_CHECKING:
    from PIL import Image


MANIFEST = "manifest.jsonl"
PLAN = "plan.json"
"""File beside the manifest: the requests that a folder's images were made from."""
SECONDS = "seconds"
"""File beside a shared batch: the seconds that making it took."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
"""Contents that are opened; Pillow knows others, some of which start programs."""


def read_manifest(folder: Path) -> list[dict[str, object]]:
    """The rows of a folder's manifest.

    Raises:
        UserError: there is none, or it is damaged.
    """
    manifest = folder / MANIFEST
    if not manifest.exists():
        raise UserError(f"{folder} has no {MANIFEST}: run the stage that makes its images first.")
    found = []
    for number, row in json_lines(manifest, "The manifest"):
        if not isinstance(row, dict) or (bad := _misfit(row)):
            raise UserError(
                f"The manifest {manifest} can't be used (line {number}: "
                f"{bad if isinstance(row, dict) else 'not an object'}): make the images again."
            )
        found.append(row)
    return found


_KINDS: Mapping[str, type] = {
    "file": str,
    "sha256": str,
    "set": str,
    "prompt": str,
    "role": str,
    "case_number": int,
    "k": int,
    "labels": dict,
}


def _misfit(row: Mapping[str, object]) -> str:
    """What is wrong with a line of a manifest; empty for one as the stages write them."""
    for name, kind in _KINDS.items():
        if type(row.get(name)) is not kind:
            return f"'{name}' is missing or of the wrong type"
    labels = row["labels"]
    if isinstance(labels, dict) and not all(isinstance(text, str) for text in labels.values()):
        return "a label that is not text"
    name, seed = str(row["file"]), row.get("seed")
    # Of the user's own images there is no seed, and they stay where they are.
    if type(seed) is not int and not (seed is None and Path(name).is_absolute()):
        return "'seed' is missing or of the wrong type"
    outside = Path(name).name != name and seed is not None
    return "a file outside the folder" if outside or "\0" in name else ""


def missing(folder: Path) -> list[Path]:
    """Images that the manifests in a folder and below it list and that are not there, and manifests
    that are not beside their plans."""
    lists = [p.with_name(MANIFEST) for p in sorted(folder.rglob(PLAN))]
    return [file for file in lists if not file.exists()] + [
        file
        for manifest in sorted(folder.rglob(MANIFEST))
        for row in read_manifest(manifest.parent)
        if not (file := manifest.parent / str(row["file"])).exists()
    ]


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder in the order of their names; hidden ones are passed over.

    Raises:
        UserError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise UserError(f"There is no image folder {folder}: give an existing one.")
    files = sorted(
        f
        for f in folder.iterdir()
        if f.suffix.lower() in SUFFIXES and f.is_file() and not is_hidden(f)
    )
    if not files:
        kinds = ", ".join(sorted(SUFFIXES))
        raise UserError(f"The folder {folder} has no images ({kinds}): put some in it.")
    for file in files:
        if not is_text(file.name):
            shown = file.name.encode(errors="replace").decode()
            raise UserError(f"The name of {folder / shown} is not UTF-8 text: rename it.")
    return files


def read_image(file: Path, size: int | None = None) -> NDArray[np.uint8]:
    """Reads one image as RGB; grey, palette and transparent images are converted.

    Args:
        file: of one of the ``FORMATS``, whatever its suffix.
        size: side in px of the square it is cropped (centre) and resized to; None leaves it.

    Returns:
        uint8 (H, W, 3).

    Raises:
        UserError: unreadable, truncated, not an image, or with values of unknown range.
    """
    import struct

    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=FORMATS) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("I", "F"):
                raise ValueError("32-bit values of unknown range")
            if image.mode.startswith("I;16"):
                # Pillow clips 16-bit grey at 255 instead of scaling it.
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
            image = on_white(image)
    # Damaged metadata make Pillow raise struct.error and TypeError too.
    except (
        *(OSError, SyntaxError, ValueError, TypeError, struct.error),
        Image.DecompressionBombError,
    ) as error:
        raise UserError(
            f"{file} can't be read as an image ({reason(error)}): remove or replace it."
        ) from error
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def on_white(image: Image.Image) -> Image.Image:
    """The image as RGB; transparent pixels have an arbitrary colour of their own and show white."""
    from PIL import Image

    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")
