"""A comparison's finished cells in one file: ``python -m benchmarks.pack runs/attacks`` writes
``benchmarks/cells/attacks.tar.gz``, and ``tar xzf benchmarks/cells/attacks.tar.gz -C runs`` lays
them out again, so that ``erase compare --out runs/attacks`` has nothing to redo.

It takes what ``compare`` reads (``matrix.json``, ``cell.json``, ``attack/attack.json``), no image,
and names files of this repository without the place where it lies on this machine.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

CELLS = Path(__file__).parent / "cells"
READ = ("matrix.json", "cell.json", "attack.json")


def figures(run: Path) -> Iterator[tuple[str, bytes]]:
    """A comparison's files that hold figures: name in the archive and text, in a fixed order.

    Raises:
        SystemExit: a file names a place outside the repository, or there is none.
    """
    files = sorted(f for name in READ for f in run.rglob(name))
    if not files:
        sys.exit(f"{run} holds no {' or '.join(READ)}.")
    repository = CELLS.resolve().parents[1]
    for file in files:
        found = json.loads(file.read_text(encoding="utf-8"))
        text = json.dumps(found, ensure_ascii=False, indent=1).replace(f"{repository}/", "")
        if (at := text.find(f'"{repository.anchor}')) >= 0:
            place = text[at + 1 :].split('"')[0]
            sys.exit(f"{file} names {place}, which is a place on this machine.")
        yield f"{run.name}/{file.relative_to(run).as_posix()}", text.encode()


def pack(run: Path, archive: Path) -> int:
    """Writes the archive, the same bytes for the same figures.

    Returns:
        How many files it holds.

    Raises:
        SystemExit: as ``figures``; nothing is written then.
    """
    files = list(figures(run))
    with (
        archive.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name, text in files:
            facts = tarfile.TarInfo(name)
            facts.size = len(text)
            tar.addfile(facts, io.BytesIO(text))
    return len(files)


def main() -> None:
    """Packs the comparisons that are named."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pack", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of `erase compare --out`")
    for run in parser.parse_args().runs:
        archive = CELLS / f"{run.resolve().name}.tar.gz"
        print(f"{archive}: {pack(run.resolve(), archive)} files")


if __name__ == "__main__":
    main()
