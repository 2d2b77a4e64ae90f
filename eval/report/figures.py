"""The report's tables, row by row, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from erase.eval.figure import cell
from erase.eval.pages import phrases
from erase.eval.pages.table import ARROWS, Cell, Column, Panel
from erase.eval.report.conclusion import GROUPS as SHIFTED

UP, DOWN = "↑", "↓"
"""Which way is better."""


@dataclass(frozen=True)
class Line:
    """One row of the table of figures.

    Attributes:
        way: which way is better.
        tone: ``better`` or ``worse`` where the intervals before and after lie apart, else empty.
    """

    name: str
    meaning: str
    count: str
    base: Cell
    erased: Cell
    way: str
    tone: str = ""


def tone(base: Mapping[str, Any] | None, erased: Mapping[str, Any] | None, way: str) -> str:
    """Whether a figure with its interval got ``better`` or ``worse``; empty where that is open."""
    if not base or not erased or not way or None in (base["low"], erased["low"]):
        return ""
    rose, fell = erased["low"] > base["high"], erased["high"] < base["low"]
    if not rose and not fell:
        return ""
    return "better" if rose is (way == UP) else "worse"


def figures(report: Mapping[str, Any]) -> list[Line]:
    """The table of the metrics' figures, base against erased."""
    found: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
    for row in report["figures"]:
        if not row["group"]:
            found.setdefault((row["metric"], row["key"]), {})[row["side"]] = row
    names = _names(report)
    return [_line(sides["base"], sides["erased"], names) for sides in found.values()]


def _names(report: Mapping[str, Any]) -> dict[str, str]:
    """The report's own words in what a figure is about."""
    target = report["target"]
    others = [a for a in report["axes"] if a != target["axis"]]
    return {
        "word": phrases.called(report["concept"], "the concept"),
        "anchor": phrases.words(target["anchor"] or report["anchor"]["word"] or "the anchor"),
        "axis": target["axis"],
        "others": " and ".join(others) or "second axis",
    }


def _line(base: Mapping[str, Any], erased: Mapping[str, Any], names: Mapping[str, str]) -> Line:
    title, name = erased["title"], erased["name"]
    if name and name.casefold() != title.casefold():
        name = f"{name} ({title})"
    count = f"n = {erased['n']}" if erased["n"] else ""
    way = ARROWS[erased["better"]]
    shown = name or title
    return Line(
        shown[0].upper() + shown[1:],
        erased["about"].format(**names),
        ", ".join(filter(None, (count, erased["detail"]))),
        _cell(base, base),
        _cell(erased, base),
        way,
        tone(base, erased, way),
    )


def _cell(row: Mapping[str, Any], base: Mapping[str, Any]) -> Cell:
    """A figure; a distance to a reference is read beside the base's own, its floor."""
    shown = cell(row, sign=True)
    if shown.note or row["against"] != "reference" or row["value"] is None:
        return shown
    if row is base:
        return Cell(shown.text, "floor")
    below = base["value"] is not None and row["value"] < base["value"]
    return Cell(shown.text, "below the floor: no sign of change" if below else "")


def panels(report: Mapping[str, Any]) -> list[Panel]:
    """The metrics' own sections."""
    return [
        Panel(
            panel["title"],
            tuple(panel["about"]),
            tuple(Column(**column) for column in panel["columns"]),
            tuple({key: Cell(**cell) for key, cell in row.items()} for row in panel["rows"]),
        )
        for panel in report["panels"]
    ]


GROUP_NAMES = {
    "forget": "prompts with {word}",
    "retain": "retained prompts",
    "neighbour": "neighbours of {word}",
    "general": "everyday captions",
    "empty": "the empty prompt",
}


@dataclass(frozen=True)
class Moved:
    """One group of prompts in the table of what else moved, formatted; see ``OverErasure``.

    Attributes:
        other: distance of another seed.
        further: how much further than that the group moved, with its sign.
        tone: ``worse`` where that is certain.
    """

    name: str
    n: int
    prompts: str
    lpips: Cell
    other: Cell
    further: Cell
    clip: tuple[Cell, Cell]
    recognised: tuple[Cell, Cell]
    tone: str


def groups(report: Mapping[str, Any]) -> list[Moved]:
    """What else moved, group by group."""
    word = phrases.called(report["concept"])
    return [
        Moved(
            GROUP_NAMES[g["name"]].format(word=word),
            g["n"],
            _prompts(g),
            _average(g["lpips"], phrases.distance),
            _average(g["other_seed"], phrases.distance),
            _difference(g["further"]),
            (_average(g["clip_base"], _one_digit), _average(g["clip_erased"], _one_digit)),
            (_share(g["recognised_base"]), _share(g["recognised_erased"])),
            "worse" if g["name"] in SHIFTED and (g["further"]["low"] or 0) > 0 else "",
        )
        for g in report["over_erasure"]["groups"]
    ]


def _difference(figure: Mapping[str, Any]) -> Cell:
    """A paired difference with its sign."""
    if figure["value"] is None:
        return Cell(phrases.DASH)
    value, low, high = (
        phrases.signed(figure[key], phrases.distance) for key in ("value", "low", "high")
    )
    return Cell(value, phrases.span(low, high, " to "))


def _prompts(group: Mapping[str, Any]) -> str:
    """How many prompts a group has, and whether training has seen them."""
    count, trained = group["prompts"], group.get("trained")
    said = f"{count} prompt{'' if count == 1 else 's'}"
    if trained is None:
        return said
    if not trained:
        return f"{said}, held out"
    return f"{said}, {'' if count == 1 else f'{trained} of them '}used in training"


def _one_digit(value: float) -> str:
    return f"{value:.1f}"


def _average(figure: Mapping[str, Any], text: Callable[[float], str]) -> Cell:
    if figure["value"] is None:
        return Cell(phrases.DASH)
    span = phrases.span(text(max(figure["low"], 0.0)), text(figure["high"]))
    return Cell(text(figure["value"]), span)


def _share(figure: Mapping[str, Any] | None) -> Cell:
    if figure is None:
        return Cell(phrases.DASH)
    return Cell(phrases.percent(figure["value"]), phrases.interval(figure))
