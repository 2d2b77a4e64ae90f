"""The report's tables, row by row, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from erase.eval.pages import phrases
from erase.eval.pages.table import Cell
from erase.eval.report.conclusion import GROUPS as SHIFTED

DEFINITIONS = {
    "ua": ("Unlearning accuracy (UA)", "forget images in which {word} is not recognised"),
    "became_anchor": ("Became the anchor", "forget images recognised as {anchor}"),
    "ra": ("Retained (RA)", "retained images in which everything asked for is recognised"),
    "ira": ("In-domain retained (IRA)", "retained images whose {axis} is recognised"),
    "cra": ("Cross-domain retained (CRA)", "retained images whose {others} is recognised"),
}


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
    way: str = UP
    tone: str = ""


def tone(base: Mapping[str, Any] | None, erased: Mapping[str, Any] | None, way: str = UP) -> str:
    """Whether a figure with its interval got ``better`` or ``worse``; empty where that is open."""
    if not base or not erased:
        return ""
    rose, fell = erased["low"] > base["high"], erased["high"] < base["low"]
    if not rose and not fell:
        return ""
    return "better" if rose is (way == UP) else "worse"


def figures(report: Mapping[str, Any]) -> list[Line]:
    """The table of headline figures, base against erased."""
    summary, target = report["summary"], report["target"]
    others = [a for a in report["axes"] if a != target["axis"]]
    names = {
        "word": report["concept"]["word"] or "the concept",
        "anchor": phrases.words(target["anchor"] or report["anchor"]["word"] or "the anchor"),
        "axis": target["axis"],
        "others": " and ".join(others) or "second axis",
    }
    lines = []
    for key, (name, meaning) in DEFINITIONS.items():
        base, erased = summary["base"][key], summary["erased"][key]
        missing = summary["reasons"].get(key, "")
        count = f"n = {erased['n']}" if erased else ""
        cells = [
            Cell(phrases.percent(f["value"]), phrases.interval(f))
            if f
            else Cell(phrases.DASH, missing)
            for f in (base, erased)
        ]
        line = Line(
            name, meaning.format(**names), count, cells[0], cells[1], tone=tone(base, erased)
        )
        lines.append(line)
    return [*_exposed(report), *lines, *_distances(report), _alignment(report)]


def _exposed(report: Mapping[str, Any]) -> list[Line]:
    found = report["nudity"]
    if found is None:
        return []
    sides = [found["compared"][side] for side in ("base", "erased")]
    cells = [
        Cell(phrases.percent(s["share"]["value"]), phrases.interval(s["share"]))
        if s["share"]
        else Cell(phrases.DASH)
        for s in sides
    ]
    meaning = "images in which a counted body part is detected"
    count = f"n = {sides[0]['n']}"
    moved = tone(sides[0]["share"], sides[1]["share"], DOWN)
    return [Line("Nudity", meaning, count, cells[0], cells[1], way=DOWN, tone=moved)]


def _distances(report: Mapping[str, Any]) -> list[Line]:
    if not report["fidelity"]:
        cell = Cell(phrases.DASH, report["summary"]["reasons"].get("fidelity", ""))
        return [Line("FID, KID", DISTANCE, "", cell, cell, way=DOWN)]
    return [
        Line(
            f["name"],
            DISTANCE if f["base_spread"] is None else f"{DISTANCE}; may fall below 0",
            f"n = {f['n']}, {f['dimensions']} dimensions",
            Cell(phrases.distance(f["base"]), _spread(f, "base") or "floor"),
            Cell(phrases.distance(f["erased"]), _spread(f, "erased") or _beside_floor(f)),
            way=DOWN,
        )
        for f in report["fidelity"]
    ]


DISTANCE = "distance of the retained images to a second base set"
ROUNDING = 1e-9
"""Spread below which a figure's subsets all hold the same images."""


def _spread(found: Mapping[str, Any], side: str) -> str:
    """The standard deviation over subsets; empty for FID, which has none."""
    spread = found[f"{side}_spread"]
    if spread is None:
        return ""
    if spread < ROUNDING * max(abs(found[side]), 1):
        return "one subset: all images"
    return f"± {spread:.2g} over subsets"


def _beside_floor(found: Mapping[str, Any]) -> str:
    return "below the floor: no sign of change" if found["erased"] < found["base"] else ""


def _alignment(report: Mapping[str, Any]) -> Line:
    found = report["clip_score"]
    meaning = "how well the retained images fit their prompts, 0 to 100"
    if found is None:
        cell = Cell(phrases.DASH, report["summary"]["reasons"].get("clip_score", ""))
        return Line("CLIP score", meaning, "", cell, cell)
    cells = [
        Cell(_one_digit(f["value"]), phrases.span(_one_digit(f["low"]), _one_digit(f["high"])))
        for f in (found["base"], found["erased"])
    ]
    count = f"n = {found['erased']['n']}"
    return Line(
        "CLIP score", meaning, count, cells[0], cells[1], tone=tone(found["base"], found["erased"])
    )


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
    word = report["concept"]["word"] or "the empty prompt"
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
    return f"{said}, {'' if count == 1 else f'{trained} of them '}trained on"


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
