"""Prompt sets: CSV files of prompts with a seed each, in the columns of ESD and I2P.

A set is named, a file, or a dataset on the hub: ``OWNER/NAME`` for the only CSV file there,
``hf:OWNER/NAME/FILE.csv`` for one of several.

``prompt`` is required. ``case_number`` numbers the rows (0, 1, … without it). The seed stands in
``evaluation_seed`` or ``sd_seed``, the guidance scale in ``evaluation_guidance`` or
``sd_guidance_scale``, the size in px in ``sd_image_width`` and ``sd_image_height``. Every other
column is a label.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from erase.errors import UserError, nearest
from erase.prompts import FOLDER

SETS = FOLDER / "sets"
SPACING = 1000
"""Distance of the seeds of neighbouring rows: image k of a row has the row's seed + k."""
MAX_SEED = 2**32
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*(?<!\.csv)")
_NUMBER = ("case_number",)
_SEED = ("evaluation_seed", "sd_seed")
_GUIDANCE = ("evaluation_guidance", "sd_guidance_scale")
_HEIGHT, _WIDTH = ("sd_image_height",), ("sd_image_width",)
_KNOWN = frozenset({"", "prompt", *_NUMBER, *_SEED, *_GUIDANCE, *_HEIGHT, *_WIDTH})


@dataclass(frozen=True)
class Row:
    """One prompt of a set.

    Attributes:
        case_number: unique within the set, >= 0.
        prompt: the text c.
        seed: of the prompt's first image, in [0, 2**62).
        labels: what the image should show, by column: ``{"object": "church", "style": "ink"}``.
        guidance: guidance scale, >= 0; None takes the sampler's.
        height, width: in px, multiples of 8; None takes the model's own.
    """

    case_number: int
    prompt: str
    seed: int
    labels: Mapping[str, str] = field(default_factory=dict)
    guidance: float | None = None
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class PromptSet:
    """A named list of prompts."""

    name: str
    rows: tuple[Row, ...]


def list_sets() -> list[str]:
    """Names of the prompt sets that come with the package."""
    return sorted(f.stem for f in SETS.glob("*.csv"))


def load_set(name_or_file: str) -> PromptSet:
    """Reads a prompt set by its name, from a CSV file (UTF-8) or from the hub.

    Raises:
        UserError: unknown name, no such dataset, unreadable or empty file, no ``prompt`` column, a
            case number that comes twice, a seed or number that is none.
    """
    if name_or_file in list_sets():
        file = SETS / f"{name_or_file}.csv"
    elif name_or_file.startswith("hf:") or (
        _HUB_ID.fullmatch(name_or_file) and not Path(name_or_file).exists()
    ):
        file = _fetch(name_or_file.removeprefix("hf:"))
    elif name_or_file.endswith(".csv") or "/" in name_or_file:
        file = Path(name_or_file)
    else:
        raise UserError(
            f"There is no prompt set '{name_or_file}'.{nearest(name_or_file, list_sets())} "
            "'erase list' shows them; a file of your own ends in .csv."
        )
    return PromptSet(file.stem, _rows(file))


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
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"The dataset '{owner}/{name}' can't be fetched ({reason}): check the name and the "
            "network."
        ) from error
    files = sorted(Path(folder).rglob(wanted or "*.csv"))
    if len(files) != 1:
        found = ", ".join(str(f.relative_to(folder)) for f in files) or "none"
        raise UserError(
            f"The dataset '{owner}/{name}' has not one CSV file but {len(files)} ({found}): name "
            f"one with hf:{owner}/{name}/FILE.csv."
        )
    return files[0]


def _rows(file: Path) -> tuple[Row, ...]:
    try:
        # The signature variant drops the mark that spreadsheets put before the first column.
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"The prompt set {file} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"The prompt set {file} is not UTF-8 text: save it as UTF-8.") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = next((cells for cells in reader if cells), [])
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise UserError(f"The prompt set {file} is no CSV file: {error}.") from error
    columns = [name.strip() for name in header]
    named = [name for name in columns if name]
    if not named:
        raise UserError(f"The prompt set {file} is empty: it needs at least a 'prompt' column.")
    if "prompt" not in columns:
        raise UserError(
            f"The prompt set {file} has no 'prompt' column, only {', '.join(named)}: add one."
        )
    if len(set(named)) < len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise UserError(f"The prompt set {file} has the column '{twice}' twice: remove one.")
    if not lines:
        raise UserError(f"The prompt set {file} has no prompts: add a row.")
    rows: list[Row] = []
    seen: set[int] = set()
    for index, (number, cells) in enumerate(lines):
        where = f"{file}, line {number}"
        if len(cells) != len(columns):
            raise UserError(f"{where} has {len(cells)} cells for {len(columns)} columns: mend it.")
        row = _row(dict(zip(columns, cells, strict=True)), index, where)
        if row.case_number in seen:
            raise UserError(f"{where} repeats the case_number {row.case_number}: number rows once.")
        seen.add(row.case_number)
        rows.append(row)
    return tuple(rows)


def _row(cells: Mapping[str, str], index: int, where: str) -> Row:
    if not cells["prompt"].strip():
        raise UserError(f"{where} has an empty prompt: write one or remove the line.")
    for names in (_NUMBER, _SEED):
        there = [name for name in names if name in cells]
        if there and not any(cells[name].strip() for name in there):
            raise UserError(f"{where} has no {there[0]}: fill it in or remove the column.")
    case_number, seed = _whole(cells, _NUMBER, where), _whole(cells, _SEED, where)
    height, width = _whole(cells, _HEIGHT, where), _whole(cells, _WIDTH, where)
    if any(side is not None and (side < 8 or side % 8) for side in (height, width)):
        raise UserError(f"{where} has a size that is no positive multiple of 8 px: mend it.")
    return Row(
        case_number=index if case_number is None else case_number,
        prompt=cells["prompt"],
        seed=index * SPACING if seed is None else seed,
        labels={name: text for name, text in cells.items() if name not in _KNOWN},
        guidance=_number(cells, _GUIDANCE, where),
        height=height,
        width=width,
    )


def _filled(cells: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str] | None:
    """Name and text of the first filled column among ``names``."""
    return next(((n, cells[n].strip()) for n in names if cells.get(n, "").strip()), None)


def _number(cells: Mapping[str, str], names: tuple[str, ...], where: str) -> float | None:
    found = _filled(cells, names)
    if found is None:
        return None
    try:
        value = float(found[1])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"{where} has the {found[0]} '{found[1]}': it must be a number >= 0.")
    return value


def _whole(cells: Mapping[str, str], names: tuple[str, ...], where: str) -> int | None:
    found = _filled(cells, names)
    if found is None:
        return None
    # Data frames write 42.0; reading the digits rather than a float keeps large seeds exact.
    digits = found[1].removesuffix(".0")
    if not (digits.isascii() and digits.isdecimal()) or int(digits) >= MAX_SEED:
        raise UserError(
            f"{where} has the {found[0]} '{found[1]}': it must be a whole number below 2^32."
        )
    return int(digits)
