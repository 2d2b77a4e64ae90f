"""What the images of a user's folder show: the hub's metadata files, or a text beside each."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from erase.prompts.columns import NAMES, TEXTS, plain
from erase.runtime.errors import UserError, clipped
from erase.runtime.tables import json_lines, read_csv, read_text

LISTS = ("metadata.jsonl", "metadata.csv")
"""Files that caption a whole folder: one line per image, with ``file_name`` and ``text``."""
BESIDE = (".txt", ".caption")
"""Suffixes of files that caption one image, by its name."""
_WHAT = "The caption file"


def captions(folder: Path, files: Sequence[Path]) -> list[str | None]:
    """What each image shows, from ``metadata.jsonl``, ``metadata.csv``, ``NAME.txt`` or
    ``NAME.caption``; None where nothing says.

    Raises:
        UserError: a caption file that can't be read, that names a file outside the folder, or two
            captions of an image that differ.
    """
    found: dict[str, tuple[str, str]] = {}  # by the image's name, its caption and where it stands
    for name in LISTS:
        listed = folder / name
        if listed.exists():
            read = _csv if listed.suffix == ".csv" else _jsonl
            for image, text, where in read(listed):
                _add(found, image, text, where)
    for file in files:
        # Windows' programs write suffixes in capitals, which other systems tell apart.
        for suffix in (*BESIDE, *(suffix.upper() for suffix in BESIDE)):
            if (beside := file.with_suffix(suffix)).exists():
                _add(found, _spelled(file.name), read_text(beside, _WHAT).strip(), str(beside))
    return [found.get(_spelled(file.name), ("", ""))[0] or None for file in files]


def _add(found: dict[str, tuple[str, str]], image: str, text: str, where: str) -> None:
    if not text:
        return
    before, place = found.setdefault(image, (text, where))
    if before != text:
        raise UserError(f"{image} has two different captions, in {place} and in {where}: keep one.")


def _spelled(name: str) -> str:
    """A file's name with one spelling of its letters."""
    return unicodedata.normalize("NFC", name)


def _csv(file: Path) -> Iterator[tuple[str, str, str]]:
    table = read_csv(file, _WHAT)
    for number, cells in table.rows:
        where = f"{file}, line {number}"
        yield _named(dict(zip(table.columns, cells, strict=True)), where)


def _jsonl(file: Path) -> Iterator[tuple[str, str, str]]:
    for number, row in json_lines(file, _WHAT):
        where = f"{file}, line {number}"
        if not isinstance(row, dict):
            raise UserError(f"{where} is not an object with file_name and text: fix it.")
        yield _named(row, where)


def _named(row: Mapping[str, Any], where: str) -> tuple[str, str, str]:
    """The image's name, its caption and the line."""
    image = _only(row, NAMES["file"], "file_name", where)
    text = _only(row, ("text", *NAMES["prompt"], *TEXTS), "text", where)
    path = PurePosixPath(image.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UserError(
            f"{where} names the file '{clipped(image)}', which is not in the folder: give its path "
            "within the folder."
        )
    # A whole path, so that a picture of a subfolder is not taken for one of the same name here.
    return _spelled(path.as_posix()), text.strip(), where


def _only(row: Mapping[str, Any], names: Sequence[str], usual: str, where: str) -> str:
    """The one text among the row's columns of these names; the usual one comes first."""
    there = [column for column in row if plain(column) in names]
    column = usual if usual in row else there[0] if len(there) == 1 else None
    value = row[column] if column is not None else None
    if not isinstance(value, str):
        raise UserError(f"{where} needs '{usual}', as text: add it.")
    return value
