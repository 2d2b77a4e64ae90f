"""Text files of the user: UTF-8 with or without its mark, and CSV read strictly."""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erase.runtime.errors import UserError, clipped, reason


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        columns: of the header, without spaces around them.
        rows: each with the number of its first line, from 1; every one has as many cells as there
            are columns.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]


def read_text(file: Path, what: str) -> str:
    """A text file's content without the mark that Windows' editors put in front.

    Args:
        file: of the user.
        what: it is called in messages, such as ``The prompt set``.

    Raises:
        UserError: unreadable, or not UTF-8 text.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{what} {file} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{what} {file} is not UTF-8 text: save it as UTF-8.") from error
    if "\0" in text:
        raise UserError(
            f"{what} {file} contains null bytes, as UTF-16 does: save it as UTF-8 text."
        )
    return text


def read_toml(file: Path, what: str) -> dict[str, Any]:
    """The values of a TOML file; arguments and errors as for ``read_text``."""
    text = read_text(file, what)
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{what} {file} is not valid TOML ({reason(error)}): fix it.") from error


def json_lines(file: Path, what: str) -> Iterator[tuple[int, Any]]:
    """The values of a JSON Lines file with the numbers of their lines, from 1.

    Raises:
        UserError: unreadable, or a line that is not JSON.
    """
    # Not the text's lines: values may hold characters that str.splitlines takes for ends.
    for number, line in enumerate(read_text(file, what).split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
                json.dumps(value, ensure_ascii=False).encode()  # half a character can't be written
                yield number, value
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{what} {file} can't be read at line {number} ({reason(error)}): fix or "
                    "remove it."
                ) from error


def read_csv(file: Path, what: str) -> Table:
    """A CSV file with commas, of which every row has the header's number of cells.

    Raises:
        UserError: unreadable, empty, another separator, a quote that is not closed, a row with
            too many or too few cells.
    """
    text = read_text(file, what)
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, strict=True, skipinitialspace=_spaced(text, lines))
    found: list[tuple[int, tuple[str, ...]]] = []
    start = 1
    try:
        for cells in reader:
            if cells:
                found.append((start, tuple(cells)))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            _broken(f"{what} {file}", lines[: reader.line_num], start, error)
        ) from error
    columns = tuple(name.strip() for name in found[0][1]) if found else ()
    if not any(columns):
        raise UserError(f"{what} {file} is empty: it needs a header and rows.")
    if len(columns) == 1 and (marks := re.findall("[;\t]", columns[0])):
        mark = "tabs" if marks[0] == "\t" else "semicolons"
        raise UserError(f"{what} {file} is separated by {mark}: save it with commas.")
    for number, row in found[1:]:
        if len(row) != len(columns):
            raise UserError(
                f"{file}, line {number} has {len(row)} cells for {len(columns)} columns: fix it; "
                "put text that contains a comma in double quotes."
            )
    return Table(columns, tuple(found[1:]))


def _spaced(text: str, lines: Sequence[str]) -> bool:
    """Whether quotes stand behind a comma and a space, which would make them part of the text."""
    if not re.search(r',[ \t]+"', text):
        return False
    with suppress(csv.Error):
        cells = (cell for row in csv.reader(lines) for cell in row)
        return any(re.match(r'[ \t]+"', cell) for cell in cells)
    return False


def _broken(what: str, lines: Sequence[str], start: int, error: csv.Error) -> str:
    """What is wrong with the row that begins in line ``start``, of a file read so far."""
    opened, inside = 0, False
    for number, line in enumerate(lines[start - 1 :], start):
        for _ in range(line.replace('""', "").count('"')):  # two are one that is meant
            inside = not inside
            opened = number if inside and ("end of data" in str(error) or not opened) else opened
    if "end of data" in str(error):
        return f"{what} has a quote on line {opened} that is not closed: close it."
    if opened and "expected after" in str(error):
        return (
            f"{what} has a quote on line {opened} that closes before its cell ends, or not at all: "
            "double every quote within quotes."
        )
    return f"{what} is not a valid CSV file (line {start}: {clipped(str(error))}): fix it."
