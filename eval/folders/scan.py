"""Pictures in a folder that nobody here made: which are measured, and why the others are not.

What a picture should show is known from a ``manifest.jsonl`` in its folder or one above, else from
a prompt set and a file name ``CASE_K.png``, else not at all.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.eval.folders.entries import Defect, Oddity, Remark, Unusable, look, order, text, walk
from erase.eval.pictures import UNKNOWN_SEED, Picture, _unknown
from erase.images.files import MANIFEST
from erase.prompts.groups import GROUPS
from erase.runtime.errors import UserError, clipped, reason
from erase.runtime.progress import each, progress

if TYPE_CHECKING:
    from erase.prompts.prompt_set import PromptSet, Row

_NAME = re.compile(r"([0-9]{1,18})_([0-9]{1,18})")


@dataclass(frozen=True)
class Scan:
    """What a folder holds.

    Attributes:
        used: pictures that were decoded in full; no two have the same ``key``. Those of manifests
            come first and in their order, the others by name with numbers by value.
        skipped: every other entry, by name. Folders that are walked and manifests that are read
            are no entries.
        notes: on used pictures, by name.
        missing: case numbers of the prompt set that have no picture, in the set's order.
    """

    used: tuple[Picture, ...]
    skipped: tuple[Remark, ...] = ()
    notes: tuple[Remark, ...] = ()
    missing: tuple[int, ...] = ()


def scan(folder: Path, prompts: PromptSet | None = None) -> Scan:
    """Looks at everything in a folder and below it, one picture in memory at a time.

    Links to folders are not followed. A picture of which nothing is known has no prompt, no
    labels, the role ``retain`` and its path as ``set``, so that two folders are paired by name.
    The same content under two names is used twice: a safety checker makes many equal black
    images, and leaving them out would change n.

    Args:
        folder: of any tool.
        prompts: joined by file or case number. Where a manifest lists a picture, its prompt must
            be the set's, and the set's labels are added.

    Raises:
        UserError: no such folder, or nothing in it that can be used.
    """
    if not folder.exists():
        raise UserError(f"There is no image folder {folder}: give an existing one.")
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder that holds the images.")
    files, skipped = walk(folder)
    candidates = _identify(folder, files, prompts, skipped)
    used: list[Picture] = []
    notes: list[Remark] = []
    paths: dict[tuple[str, int, int], Path] = {}
    contents: dict[str, Path] = {}
    bar = progress("checking pictures", len(candidates), "image")
    for picture in each(candidates, bar):
        path = picture.file
        try:
            if picture.key in paths:
                raise Unusable(Defect.SECOND, f"the first is {text(paths[picture.key])}")
            content, oddities = look(folder / path)
            if picture.sha256 not in ("", content):
                raise Unusable(Defect.ALTERED)
        except Unusable as error:
            skipped.append(Remark(path, error.reason, error.detail))
            continue
        if not path.name.isascii():
            oddities.append((Oddity.NAME, ""))
        if content in contents:
            oddities.append((Oddity.DUPLICATE, f"as {text(contents[content])}"))
        notes += [Remark(path, reason, detail) for reason, detail in oddities]
        paths[picture.key] = path
        contents.setdefault(content, path)
        used.append(replace(picture, file=folder / path, sha256=content))
    if not used:
        raise _nothing(folder, skipped)
    cases = {picture.case_number for picture in used}
    return Scan(
        used=tuple(used),
        skipped=tuple(sorted(skipped, key=lambda r: order(r.path))),
        notes=tuple(sorted(notes, key=lambda r: order(r.path))),
        missing=tuple(r.case_number for r in _rows(prompts).values() if r.case_number not in cases),
    )


def _nothing(folder: Path, skipped: Sequence[Remark]) -> UserError:
    """Why no picture can be used."""
    if not skipped:
        return UserError(f"The folder {folder} is empty: give one that holds images.")
    # A manifest that can't be read is why its pictures are not listed.
    if line := next((r for r in skipped if r.reason is Defect.LINE), None):
        return UserError(
            f"{folder} has no picture that can be used: a line of {text(line.path)} can't be "
            f"read ({clipped(line.detail, 100)}); each needs 'file' and 'prompt', as text."
        )
    [(reason, count)] = Counter(remark.reason for remark in skipped).most_common(1)
    return UserError(
        f"{folder} has no picture that can be used: "
        f"{_count(skipped, 'entry was', 'entries were')} skipped, most often because: "
        f"{reason} ({count:,})."
    )


def case_and_k(name: str) -> tuple[int, int] | None:
    """Case number and k of a file name ``CASE_K.png``, with or without leading zeros; else None."""
    found = _NAME.fullmatch(Path(name).stem)
    return (int(found[1]), int(found[2])) if found else None


def summary(found: Scan, names: int = 20) -> dict[str, Any]:
    """A scan as JSON: how many pictures are used, and entries by reason.

    Args:
        found: the scan.
        names: entries that are named for each reason, at most.

    Returns:
        ``used``, ``skipped``, ``noted`` and ``missing`` as counts; ``reasons`` and ``notes`` by
        reason with ``count`` and ``first``, a list of ``name`` and ``detail``;
        ``missing_first``, case numbers.
    """
    return {
        "used": len(found.used),
        "skipped": len(found.skipped),
        "noted": len({remark.path for remark in found.notes}),
        "missing": len(found.missing),
        "reasons": _by_reason(found.skipped, names),
        "notes": _by_reason(found.notes, names),
        "missing_first": list(found.missing[:names]),
    }


def words(found: Scan) -> str:
    """A scan in one to three sentences."""
    said = _count(found.used, "picture is", "pictures are") + " used"
    said += f" (noted: {_tally(found.notes)})." if found.notes else "."
    if found.skipped:
        entries = _count(found.skipped, "entry is", "entries are")
        said += f" {entries} skipped: {_tally(found.skipped)}."
    if found.missing:
        said += f" {_count(found.missing, 'prompt of the set has', 'prompts of the set have')}"
        said += " no picture."
    return said


def _count(items: Sequence[object], one: str, many: str) -> str:
    return f"{len(items):,} {one if len(items) == 1 else many}"


def _tally(remarks: Sequence[Remark]) -> str:
    counts = Counter(remark.reason for remark in remarks)
    return ", ".join(f"{reason} ({count:,})" for reason, count in counts.most_common())


def _by_reason(remarks: Sequence[Remark], names: int) -> dict[str, Any]:
    reasons: dict[str, list[Remark]] = {}
    for remark in remarks:
        reasons.setdefault(str(remark.reason), []).append(remark)
    return {
        reason: {
            "count": len(group),
            "first": [{"name": text(r.path), "detail": r.detail} for r in group[:names]],
        }
        for reason, group in sorted(reasons.items(), key=lambda kv: -len(kv[1]))
    }


def _rows(prompts: PromptSet | None) -> dict[int, Row]:
    return {row.case_number: row for row in prompts.rows} if prompts else {}


def _identify(
    folder: Path, files: Sequence[Path], prompts: PromptSet | None, skipped: list[Remark]
) -> list[Picture]:
    """What each picture should show, with relative paths; adds to ``skipped`` what nothing says."""
    rows = _rows(prompts)
    pictures = dict.fromkeys(path for path in files if path.name != MANIFEST)
    named = {remark.path for remark in skipped}
    listed: dict[Path, Picture] = {}
    places: set[Path] = set()
    for manifest in (path for path in files if path.name == MANIFEST):
        try:
            lines = (folder / manifest).read_bytes().removeprefix(BOM_UTF8).splitlines()
        except OSError as error:
            skipped.append(Remark(manifest, Defect.UNREADABLE, error.strerror or ""))
            continue
        places.add(manifest.parent)
        for index, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                picture = _from_line(line, index, manifest.parent)
                if picture.file in listed:
                    raise ValueError(f"{text(picture.file)} is listed before")
                listed[picture.file] = picture
            except (ValueError, RecursionError) as error:
                skipped.append(Remark(manifest, Defect.LINE, f"line {index + 1}: {reason(error)}"))
    found: list[Picture] = []
    named_rows = _by_file(list(pictures), rows.values())
    for path in {**listed, **pictures}:
        try:
            if path in listed and path not in pictures:
                if path not in named:
                    raise Unusable(Defect.MISSING)
            elif path in listed:
                found.append(_asked(listed[path], rows, prompts.name) if prompts else listed[path])
            elif not places.isdisjoint(path.parents):
                raise Unusable(Defect.UNLISTED)
            else:
                found.append(
                    _from_set(path, named_rows, rows, prompts.name) if prompts else _unknown(path)
                )
        except Unusable as error:
            skipped.append(Remark(path, error.reason, error.detail))
    return found


def _from_line(line: bytes, index: int, place: Path) -> Picture:
    """The picture of a manifest's line; ``file`` and ``prompt`` are required.

    Raises:
        ValueError: a line that is none.
    """
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError("not an object")
    json.dumps(row, ensure_ascii=False).encode()  # half a character can't be written again
    values: dict[str, Any] = {
        "file": "",
        "sha256": "",
        "set": "/".join(place.parts),
        "case_number": index,
        "k": 0,
        "prompt": "",
        "seed": UNKNOWN_SEED,
        "role": "retain",
        "labels": {},
    }
    absent = [name for name in ("file", "prompt") if name not in row]
    wrong = [n for n, value in values.items() if type(row.get(n, value)) is not type(value)]
    if absent or wrong:
        raise ValueError(f"no {absent[0]}" if absent else f"{wrong[0]} is of the wrong type")
    values |= {name: row[name] for name in values if name in row}
    if not all(isinstance(label, str) for label in values["labels"].values()):
        raise ValueError("labels must be text")
    if values["role"] not in ("forget", "retain", *GROUPS):
        raise ValueError(f"role must be one of forget, retain, {', '.join(GROUPS)}")
    return Picture(**values | {"file": Path(os.path.normpath(place / values["file"]))})


def _asked(picture: Picture, rows: Mapping[int, Row], name: str) -> Picture:
    """A listed picture as a row of the set."""
    row = rows.get(picture.case_number)
    if row is None:
        raise Unusable(Defect.CASE, f"case {picture.case_number}")
    if row.prompt != picture.prompt:
        raise Unusable(Defect.PROMPT, f"case {picture.case_number}")
    return replace(picture, set=name, labels={**picture.labels, **row.labels})


def _by_file(paths: Sequence[Path], rows: Iterable[Row]) -> dict[Path, Row]:
    """The rows of a set's column ``file`` by picture: by its path in the folder, or, where no such
    path is there, by its name, if only one picture and one row have it."""
    spelled = {unicodedata.normalize("NFC", path.as_posix()): path for path in paths}
    by_name: dict[str, list[Path]] = {}
    for spelling, path in spelled.items():
        by_name.setdefault(spelling.rpartition("/")[2], []).append(path)
    found: dict[Path, Row] = {}
    looser: dict[Path, list[Row]] = {}
    for row in rows:
        if row.file in spelled:
            found[spelled[row.file]] = row
        elif row.file and len(same := by_name.get(row.file.rpartition("/")[2], [])) == 1:
            looser.setdefault(same[0], []).append(row)
    return {path: own[0] for path, own in looser.items() if len(own) == 1} | found


def _from_set(path: Path, named: Mapping[Path, Row], rows: Mapping[int, Row], name: str) -> Picture:
    row, k = named.get(path), 0
    if row is None:
        numbers = case_and_k(path.name)
        if numbers is None:
            files = any(r.file for r in rows.values())
            raise Unusable(Defect.FILE if files else Defect.NAME)
        case, k = numbers
        if case not in rows:
            raise Unusable(Defect.CASE, f"case {case}")
        row = rows[case]
        if row.file:
            raise Unusable(Defect.FILE, f"case {case} is {row.file}")
    labels = dict(row.labels)
    return Picture(path, "", name, row.case_number, k, row.prompt, UNKNOWN_SEED, "retain", labels)
