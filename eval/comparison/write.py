"""A comparison's files: tables, plots and page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erase.eval.comparison.tables import csv, latex, markdown
from erase.runtime.files import write_json, write_text


def write_all(
    folder: Path,
    result: Mapping[str, Any],
    runs: Mapping[tuple[str, str, int], Path],
    command: str,
) -> str:
    """Writes ``compare.{json,md,tex,csv,html}``; returns the Markdown table.

    Args:
        folder: of the matrix.
        result: of ``compare``.
        runs: run folders of the cells, by recipe, concept and seed, for the pictures.
        command: that makes the comparison again.
    """
    from erase.eval.comparison.page import render

    text = markdown(result)
    write_text(folder / "compare.html", render(result, runs, command))
    write_json(folder / "compare.json", result)
    write_text(folder / "compare.md", text)
    write_text(folder / "compare.tex", latex(result))
    write_text(folder / "compare.csv", csv(result))
    return text
