"""Entries of a folder: which are pictures that can be decoded, and why the others are not."""

from __future__ import annotations

import errno
import os
import re
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from erase.images.files import FORMATS, MANIFEST, PLAN
from erase.images.files import SUFFIXES as USUAL
from erase.runtime.errors import reason
from erase.runtime.files import is_hidden, sha256

if TYPE_CHECKING:
    from PIL import Image, ImageFile

SUFFIXES = USUAL | {".gif", ".tif", ".tiff"}


class Defect(StrEnum):
    """Why an entry of a folder is not used."""

    EMPTY = "zero bytes"
    BROKEN = "cut short or damaged"
    NOT_AN_IMAGE = "not an image by its content"
    HUGE = "too many pixels"
    RANGE = "32-bit or floating-point values of unknown range"
    FOLDER = "a folder with a picture's name"
    SPECIAL = "not a regular file"
    LOOP = "symbolic link loop"
    LINKED_FOLDER = "symbolic link to a folder, not followed"
    DANGLING = "symbolic link to nothing"
    UNREADABLE = "can't be read"
    HIDDEN = "hidden"
    OTHER = "not a picture by its suffix"
    NOT_UTF8 = "name is not UTF-8"
    NAME = "name is not CASE_K, such as 12_0.png, and the prompt set has no column 'file'"
    FILE = "not in the prompt set's column 'file'"
    CASE = "case number is not in the prompt set"
    SECOND = "second file for the same image"
    PROMPT = "manifest and prompt set differ in the prompt"
    LINE = "manifest line can't be used"
    UNLISTED = "not listed in the manifest"
    MISSING = "listed in the manifest, but not there"
    ALTERED = "not the file that the manifest lists"
    BESIDE = "of a group of prompts that no metric here looks at"


class Oddity(StrEnum):
    """What is said of a picture that is used nevertheless."""

    DUPLICATE = "same content as another file"
    TURNED = "turned upright by its EXIF orientation"
    CMYK = "CMYK, converted to RGB without a colour profile"
    DEEP = "16 bits per channel, scaled to 8"
    FRAMES = "several frames, the first is used"
    NAME = "name with characters outside ASCII"


@dataclass(frozen=True)
class Remark:
    """What is said of one entry.

    Attributes:
        path: relative to the folder.
        reason: a ``Defect`` where the entry is skipped, an ``Oddity`` where it is used.
        detail: particulars, may be empty.
    """

    path: Path
    reason: Defect | Oddity
    detail: str = ""


class Unusable(Exception):
    """One entry can't be used; never leaves a scan."""

    def __init__(self, reason: Defect, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def text(path: Path) -> str:
    """A path that can be written anywhere; bytes that are no UTF-8 are spelled out."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def walk(folder: Path) -> tuple[list[Path], list[Remark]]:
    """Pictures and manifests by name, and what can't be one; paths relative to the folder."""
    files: list[Path] = []
    skipped: list[Remark] = []

    def unreadable(error: OSError) -> None:
        path = Path(error.filename).relative_to(folder)
        skipped.append(Remark(path, Defect.UNREADABLE, error.strerror or ""))

    for place, folders, names in os.walk(folder, onerror=unreadable):
        here = Path(place).relative_to(folder)
        defects = {here / name: _folder_defect(folder / here / name) for name in folders}
        # Hidden folders hold copies that other programs made, such as notebooks' checkpoints, and
        # a Mac's archives one of what it keeps beside each file.
        closed = (Defect.HIDDEN, Defect.NOT_UTF8)
        folders[:] = [name for name in folders if defects[here / name] not in closed]
        if MANIFEST in names:  # what stands beside it in a folder that this program filled
            names = [name for name in names if name != PLAN]
        defects |= {here / name: _file_defect(folder / here / name) for name in names}
        skipped += [Remark(path, defect) for path, defect in defects.items() if defect]
        files += [here / name for name in names if not defects[here / name]]
    return sorted(files, key=order), skipped


def _folder_defect(path: Path) -> Defect | None:
    if path.name.startswith(".") or path.name == "__MACOSX":
        return Defect.HIDDEN
    if not _is_utf8(path.name):
        return Defect.NOT_UTF8
    if path.is_symlink():
        loop = path.parent.resolve().is_relative_to(path.resolve())
        return Defect.LOOP if loop else Defect.LINKED_FOLDER
    return Defect.FOLDER if path.suffix.lower() in SUFFIXES else None


def _file_defect(path: Path) -> Defect | None:
    if is_hidden(path):
        return Defect.HIDDEN
    if path.suffix.lower() not in SUFFIXES and path.name != MANIFEST:
        return Defect.OTHER
    if not _is_utf8(path.name):
        return Defect.NOT_UTF8
    try:
        facts = path.stat()
    except OSError as error:
        links = {errno.ELOOP: Defect.LOOP, errno.ENOENT: Defect.DANGLING}
        return links.get(error.errno or 0, Defect.UNREADABLE)
    if not stat.S_ISREG(facts.st_mode):
        return Defect.SPECIAL
    return None if facts.st_size else Defect.EMPTY


def _is_utf8(name: str) -> bool:
    """Whether reports can hold a name as it is."""
    return text(Path(name)) == name


def order(path: Path) -> tuple[list[list[str | tuple[int, str]]], str]:
    """Sorts 2_0.png before 10_0.png; the name itself decides between 1_0.png and 01_0.png."""
    pieces = [re.split("([0-9]+)", part) for part in path.parts]
    return [[_by_value(p) if i % 2 else p for i, p in enumerate(part)] for part in pieces], str(
        path
    )


def _by_value(digits: str) -> tuple[int, str]:
    """Sorts numbers of any length."""
    bare = digits.lstrip("0")
    return len(bare), bare


def look(file: Path) -> tuple[str, list[tuple[Oddity, str]]]:
    """Hash and oddities of a picture, which is decoded in full.

    Raises:
        Unusable: it can't be, or not to values in a known range.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                limit = Image.MAX_IMAGE_PIXELS
                if limit and image.width * image.height > limit:
                    raise Unusable(Defect.HUGE, f"{image.width} × {image.height} px")
                oddities = list(_stored(image))
                # Whatever can fail when the metrics read it: decoding, turning, converting.
                ImageOps.exif_transpose(image).convert("RGB")
                if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
                    raise Unusable(Defect.RANGE)
                oddities += _decoded(image)
        return sha256(file), oddities
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable(Defect.HUGE, reason(error)) from error
    except UnidentifiedImageError as error:
        raise Unusable(Defect.NOT_AN_IMAGE) from error
    except OSError as error:
        # Pillow's own errors have no number; the system's name the whole path in their text.
        defect = Defect.BROKEN if error.errno is None else Defect.UNREADABLE
        raise Unusable(defect, error.strerror or reason(error)) from error
    except Exception as error:  # damaged files make decoders raise anything
        raise Unusable(Defect.BROKEN, reason(error)) from error


def _stored(image: ImageFile.ImageFile) -> Iterator[tuple[Oddity, str]]:
    """What decoding forgets: how the values are stored, and a TIFF's orientation."""
    if image.format in ("PNG", "TIFF") and ";16" in repr(image.tile):
        yield Oddity.DEEP, ""
    if image.format == "TIFF" and _is_turned(image):
        yield Oddity.TURNED, ""


def _decoded(image: Image.Image) -> Iterator[tuple[Oddity, str]]:
    """What can be asked of a decoded image: a PNG's orientation may stand behind its pixels."""
    if _is_turned(image):
        yield Oddity.TURNED, ""
    if image.mode == "CMYK":
        yield Oddity.CMYK, ""
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        yield Oddity.FRAMES, f"{frames} frames"


def _is_turned(image: Image.Image) -> bool:
    from PIL import ExifTags

    return image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
