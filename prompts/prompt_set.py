"""Prompt sets: CSV files of prompts with a seed each, in the columns of ESD and I2P.

A set is named, a file, or a dataset on the hub: ``OWNER/NAME`` for the only CSV file there,
``hf:OWNER/NAME/FILE.csv`` for one of several.

``prompt`` is required, and may be empty in a row. ``case_number`` numbers the rows (0, 1, …
without it). The seed stands in ``seed``, ``evaluation_seed`` or ``sd_seed``, the guidance scale in
``guidance_scale``, ``evaluation_guidance`` or ``sd_guidance_scale``, the size in px in ``width``
and ``height`` or ``sd_image_width`` and ``sd_image_height``; ``erase.prompts.columns`` has all.
``file`` says which image of a folder a row is of. Every other column is a label, where it is
filled.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TypeVar

from erase.prompts import FOLDER
from erase.prompts.columns import meanings
from erase.runtime.errors import UserError, clipped, nearest, reason
from erase.runtime.files import is_hidden
from erase.runtime.notes import note
from erase.runtime.tables import read_csv
from erase.runtime.words import untyped

V = TypeVar("V")

SETS = FOLDER / "sets"
SPACING = 1000
"""Distance of the seeds of neighbouring rows: image k of a row has the row's seed + k."""
MAX_SEED = 2**62
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(?<!\.csv)")
MAX_SIDE = 16_384
"""Longest side of an image in px."""


@dataclass(frozen=True)
class Row:
    """One prompt of a set.

    Attributes:
        case_number: unique within the set, >= 0.
        prompt: the text c, may be empty.
        seed: of the prompt's first image, in [0, 2**62).
        labels: what the image should show, by column: ``{"object": "church", "style": "ink"}``.
        guidance: guidance scale, >= 0; None takes the sampler's.
        height, width: in px, multiples of 8; None takes the model's own.
        file: the row's image where a folder of images is judged, relative to the folder; empty
            where the set does not say.
    """

    case_number: int
    prompt: str
    seed: int
    labels: Mapping[str, str] = field(default_factory=dict)
    guidance: float | None = None
    height: int | None = None
    width: int | None = None
    file: str = ""


@dataclass(frozen=True)
class PromptSet:
    """A named list of prompts."""

    name: str
    rows: tuple[Row, ...]


def list_sets() -> list[str]:
    """Names of the prompt sets that come with the package."""
    return sorted(f.stem for f in SETS.glob("*.csv") if not is_hidden(f))


def load_set(name_or_file: str) -> PromptSet:
    """Reads a prompt set by its name, from a CSV file (UTF-8) or from the hub.

    Raises:
        UserError: unknown name, no such dataset, unreadable or empty file, no ``prompt`` column or
            several, a case number or file that comes twice, a number that can't be read, two
            columns of one meaning that differ, a file outside the image folder.
    """
    if name_or_file in list_sets():
        return _bundled(name_or_file)
    if name_or_file.startswith("hf:") or (
        _HUB_ID.fullmatch(name_or_file) and not Path(name_or_file).exists()
    ):
        file = _fetch(name_or_file.removeprefix("hf:"))
    elif name_or_file.endswith(".csv") or "/" in name_or_file:
        file = Path(name_or_file)
    else:
        raise UserError(
            f"There is no prompt set '{clipped(name_or_file, 100)}'."
            f"{nearest(name_or_file, list_sets())} 'erase list sets' shows them; a file of "
            "your own must end in .csv."
        )
    return PromptSet(file.stem, _rows(file))


@cache
def _bundled(name: str) -> PromptSet:
    """A set of the package, which does not change meanwhile."""
    return PromptSet(name, _rows(SETS / f"{name}.csv"))


def _fetch(spec: str) -> Path:
    """A CSV file of a dataset on the hub, from the cache where it is there."""
    from huggingface_hub import snapshot_download

    owner, _, rest = spec.partition("/")
    name, _, wanted = rest.partition("/")
    try:
        folder = snapshot_download(
            f"{owner}/{name}", repo_type="dataset", allow_patterns=wanted or "*.csv"
        )
    except Exception as error:  # whatever the hub's client and its http library raise
        raise UserError(
            f"The dataset '{owner}/{name}' can't be fetched ({reason(error)}): check the name and "
            "the network."
        ) from error
    files = sorted(f for f in Path(folder).rglob(wanted or "*.csv") if not is_hidden(f))
    if len(files) != 1:
        found = clipped(", ".join(str(f.relative_to(folder)) for f in files), 120) or "none"
        raise UserError(
            f"The dataset '{owner}/{name}' has {len(files)} CSV files ({found}), not one: name "
            f"one with hf:{owner}/{name}/FILE.csv."
        )
    return files[0]


def _rows(file: Path) -> tuple[Row, ...]:
    what = f"The prompt set {file}"
    table = read_csv(file, "The prompt set")
    by_meaning = meanings(table.columns, what)
    if not table.rows:
        raise UserError(f"{what} has no prompts: add a row.")
    lines = [
        (f"{file}, line {number}", dict(zip(table.columns, cells, strict=True)))
        for number, cells in table.rows
    ]
    for where, cells in lines:
        if len(cells) > 1 and not any(text.strip() for text in cells.values()):
            raise UserError(f"{where} is blank except for its commas: remove it.")
    if "case" not in by_meaning:
        by_meaning["case"] = _numbering(by_meaning.get("id", []), lines)
    idle = [c for c in by_meaning.get("idle", []) if any(cells[c].strip() for _, cells in lines)]
    if idle:
        note(
            f"{what} has the column{'s' if len(idle) > 1 else ''} {clipped(', '.join(idle))}, "
            "which has no effect in a prompt set: give such settings as flags."
        )
    rows: list[Row] = []
    seen: dict[object, str] = {}
    for index, (where, cells) in enumerate(lines):
        row = _row(cells, by_meaning, index, where)
        for kind, value in (("case_number", row.case_number), ("file", row.file)):
            if value != "" and seen.setdefault((kind, value), where) != where:
                raise UserError(
                    f"{where} repeats the {kind} {value}: give each row one of its own."
                )
        rows.append(row)
    _tell_spellings(what, rows)
    return tuple(rows)


def _tell_spellings(what: str, rows: Sequence[Row]) -> None:
    """A note for each label that is spelled in two ways, which judges take for two classes."""
    labels = dict.fromkeys(item for row in rows for item in row.labels.items())
    first: dict[tuple[str, str], str] = {}
    for column, label in labels:
        if (other := first.setdefault((column, untyped(label)), label)) != label:
            note(
                f"{what} has the {column} '{clipped(other)}' and '{clipped(label)}', which count "
                "as two: spell them alike if they are one."
            )


def _numbering(columns: Sequence[str], lines: Sequence[tuple[str, Mapping[str, str]]]) -> list[str]:
    """The column of ids that numbers the rows, if there is one; a number that comes twice is
    refused with the case numbers."""
    for column in columns:
        texts = [cells[column].strip().removesuffix(".0") for _, cells in lines]
        if all(text.isascii() and text.isdecimal() for text in texts):
            return [column]
    return []


def _row(
    cells: Mapping[str, str], by_meaning: Mapping[str, Sequence[str]], index: int, where: str
) -> Row:
    def one(meaning: str, read: Callable[[str, str, str], V], needed: bool = False) -> V | None:
        """The value that all filled columns of a meaning agree on."""
        names = by_meaning.get(meaning, [])
        found = {n: read(n, cells[n].strip(), where) for n in names if cells[n].strip()}
        if needed and names and not found:
            raise UserError(f"{where} has no {names[0]}: fill it in or remove the column.")
        for name, value in found.items():
            if value != next(iter(found.values())):
                raise UserError(
                    f"{where} has the {names[0]} '{cells[names[0]]}' and the {name} "
                    f"'{cells[name]}', which differ: remove one of the columns."
                )
        return next(iter(found.values()), None)

    case_number, seed = one("case", _whole, needed=True), one("seed", _whole, needed=True)
    sides = one("size", _sides) or (None, None)
    width, height = one("width", _side), one("height", _side)
    if any(a and b and a != b for a, b in zip(sides, (width, height), strict=True)):
        raise UserError(f"{where} has a size that differs from its width or height: remove one.")
    return Row(
        case_number=index if case_number is None else case_number,
        prompt=cells[by_meaning["prompt"][0]],
        seed=index * SPACING if seed is None else seed,
        labels={n: text for n in by_meaning.get("label", []) if (text := cells[n].strip())},
        guidance=one("guidance", _number),
        height=height or sides[1],
        width=width or sides[0],
        file=one("file", _file) or "",
    )


def _number(name: str, text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"{where} has the {name} '{clipped(text)}': it must be a number >= 0.")
    return value


def _whole(name: str, text: str, where: str) -> int:
    # Data frames write 42.0; reading the digits rather than a float keeps large seeds exact.
    digits = text.removesuffix(".0")
    if (
        not (digits.isascii() and digits.isdecimal() and len(digits) < 20)
        or int(digits) >= MAX_SEED
    ):
        raise UserError(
            f"{where} has the {name} '{clipped(text)}': it must be a whole number below 2^62."
        )
    return int(digits)


def _side(name: str, text: str, where: str) -> int:
    side = _whole(name, text, where)
    if side < 8 or side % 8 or side > MAX_SIDE:
        raise UserError(
            f"{where} has the {name} {side}, which is not a multiple of 8 px up to {MAX_SIDE}: fix "
            "it."
        )
    return side


def _sides(name: str, text: str, where: str) -> tuple[int, int]:
    """Width and height, as ``512`` or ``512x768``."""
    found = re.fullmatch(r"(\d+)(?:\s*[x×*]\s*(\d+))?", text.lower().removesuffix("px").strip())
    if not found:
        raise UserError(
            f"{where} has the {name} '{clipped(text)}': write 512 or 512x768 (width x height) in "
            "px, or rename the column if it is a label."
        )
    return _side(name, found[1], where), _side(name, found[2] or found[1], where)


def _file(name: str, text: str, where: str) -> str:
    """A path within the image folder, with one spelling of its letters and separators."""
    path = PurePosixPath(unicodedata.normalize("NFC", text).replace("\\", "/"))
    if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
        raise UserError(
            f"{where} has the {name} '{clipped(text)}', which leads outside the image folder: give "
            "its path within the folder."
        )
    return path.as_posix()
