"""Folders of small pictures, and what a scan says of them by name."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from erase.eval.folders.entries import Defect, Oddity
from erase.eval.folders.scan import Scan


def pixels(seed: int, side: int = 16) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (side, side, 3), dtype=np.uint8)


def picture(seed: int = 0, side: int = 16) -> Image.Image:
    return Image.fromarray(pixels(seed, side))


def fill(folder: Path, *names: str) -> Path:
    """Pictures of different content under these names."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(folder / name, format="PNG")
    return folder


def used(found: Scan, folder: Path) -> list[str]:
    return [p.file.relative_to(folder).as_posix() for p in found.used]


def skipped(found: Scan) -> dict[str, Defect | Oddity]:
    return {r.path.as_posix(): r.reason for r in found.skipped}


def noted(found: Scan) -> dict[str, Defect | Oddity]:
    return {r.path.as_posix(): r.reason for r in found.notes}


def chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG file."""
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, last: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), last, chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif
