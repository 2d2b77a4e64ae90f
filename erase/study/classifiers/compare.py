"""``erase classifier compare``: the finished cells in tables and on a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from erase.eval.classifiers.comparison import tables
from erase.eval.classifiers.comparison.compare import compare
from erase.runtime.errors import UserError
from erase.runtime.files import write_json, write_text
from erase.runtime.places import short
from erase.study.classifiers.matrix import Cell, earlier


def summarise(cells: Sequence[Cell], out: Path, command: str) -> str:
    """Writes ``compare.{md,csv,json,html}`` of these cells and of those that the folder has from
    earlier commands.

    Returns:
        The tables and where the page is.

    Raises:
        UserError: no cell is finished.
    """
    found = [result for cell in cells if (result := cell.result()) is not None]
    if not found:
        raise UserError("No run was finished: fix what the messages report and compare again.")
    before = earlier(cells, out)
    result = compare([*found, *before])
    run = cells[0].run
    facts = {
        "Model": short(run.model),
        "Data": short(run.data.spec),
        "Training samples": f"{len(run.split.train):,}",
        "Epochs of training": f"{asdict(run.training)['epochs']:g}",
        "Runs": f"{len(found) + len(before)} of {len(cells) + len(before)}",
    }
    text = tables.markdown(result)
    write_text(out / "compare.md", text)
    write_text(out / "compare.csv", tables.csv(result))
    write_json(out / "compare.json", {"command": command, "forget": result})
    write_text(out / "compare.html", tables.page(result, found, facts, command))
    return f"{text}\n{out / 'compare.html'}"
