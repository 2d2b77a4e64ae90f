"""One table, written as Markdown, CSV, LaTeX or HTML.

A row maps the keys of its columns to cells. For people a cell is text, or a ``Cell`` with a note
and a tone; in CSV it is the value as it is. What a row lacks stays empty.
"""

from __future__ import annotations

import csv as library
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["up", "down"]
ARROWS: Mapping[Better | None, str] = {"up": "↑", "down": "↓", None: ""}
TEX = {
    **{sign: f"\\{sign}" for sign in "%&#_${}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "\N{MINUS SIGN}": "$-$",
}
"""Signs that LaTeX reads as its own, or has another spelling for."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: in a row, and the head of the CSV column.
        title: of the column, without its unit.
        unit: ``%`` for fractions that are printed as percentages, ``points`` for their differences.
        better: which way is better; None for neither.
        name: in full, ``Unlearning accuracy`` for ``UA``; empty where that is the title.
        about: what it measures, as a phrase; a report puts its own words for {word}, {anchor},
            {axis} and {others}.
        digits: behind the point of a value without a unit; None prints three significant digits.
    """

    key: str
    title: str
    unit: str = ""
    better: Better | None = None
    name: str = ""
    about: str = ""
    digits: int | None = None

    @property
    def head(self) -> str:
        """The title with its unit: ``UA %``, ``change, points``."""
        if not self.unit:
            return self.title
        return f"{self.title} %" if self.unit == "%" else f"{self.title}, {self.unit}"

    @property
    def arrow(self) -> str:
        """``↑`` where higher is better, ``↓`` where lower is; else empty."""
        return ARROWS[self.better]


@dataclass(frozen=True)
class Cell:
    """A figure as text.

    Attributes:
        text: the figure.
        note: beside or below it, such as its interval.
        tone: ``better`` or ``worse`` where that is certain, ``best`` of a column; else empty.
        shade: how dark the cell is in a heat map, in [0, 1]; None in other tables.
    """

    text: str
    note: str = ""
    tone: str = ""
    shade: float | None = None

    def __str__(self) -> str:
        return f"{self.text} ({self.note})" if self.note else self.text


Row = Mapping[str, Any]


@dataclass(frozen=True)
class Panel:
    """A section of a page: sentences, and a table.

    Attributes:
        title: of the section.
        about: what the table shows and how to read it, a paragraph each.
        columns: of the table; the first one names the row.
        rows: by key of the column.
    """

    title: str
    about: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Cell], ...]


def markdown(columns: Sequence[Column], rows: Iterable[Row]) -> str:
    """The table as Markdown, a line each, with a final line break."""
    lines = [[c.head for c in columns], ["---"] * len(columns)]
    lines += [[_plain(row, c) for c in columns] for row in rows]
    escaped = ([text.replace("|", r"\|") for text in line] for line in lines)
    head, rule, *body = (f"| {' | '.join(line)} |\n" for line in escaped)
    return "".join([head, rule.replace(" ", ""), *body])


def csv(keys: Iterable[str], rows: Iterable[Row]) -> str:
    """The table as CSV to compute with: values as they are, empty where there is none."""
    out = io.StringIO()
    writer = library.DictWriter(out, list(keys), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def latex(columns: Sequence[Column], rows: Iterable[Row]) -> str:
    """The table for a paper (booktabs), notes left out; bold is what has the tone ``best``."""
    lines = [
        rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}",
        r"\toprule",
        " & ".join(tex(c.head) for c in columns) + r" \\",
        r"\midrule",
    ]
    for row in rows:
        cells = []
        for cell in (row.get(c.key, "") for c in columns):
            text = tex(cell.text if isinstance(cell, Cell) else str(cell))
            best = isinstance(cell, Cell) and cell.tone == "best"
            cells.append(rf"\textbf{{{text}}}" if best else text)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def tex(text: str) -> str:
    """Text as LaTeX prints it."""
    return "".join(TEX.get(sign, sign) for sign in text)


def _plain(row: Row, column: Column) -> str:
    return str(row.get(column.key, ""))
