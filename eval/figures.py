"""The report's tables, row by row, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from erase.eval import verdict

DEFINITIONS = {
    "ua": ("Unlearning accuracy (UA)", "forget images in which {word} is not recognised"),
    "became_anchor": ("Became the anchor", "forget images recognised as {anchor}"),
    "ra": ("Retained (RA)", "retained images in which everything asked for is recognised"),
    "ira": ("In-domain retained (IRA)", "retained images whose {axis} is recognised"),
    "cra": ("Cross-domain retained (CRA)", "retained images whose {others} is recognised"),
}


@dataclass(frozen=True)
class Cell:
    """One figure on one side, formatted."""

    value: str
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One row of the table of figures."""

    name: str
    meaning: str
    count: str
    base: Cell
    erased: Cell


def figures(report: Mapping[str, Any]) -> list[Line]:
    """The table of headline figures, base against erased."""
    summary, target = report["summary"], report["target"]
    others = [a for a in report["axes"] if a != target["axis"]]
    names = {
        "word": report["concept"]["word"] or "the concept",
        "anchor": verdict.words(target["anchor"] or report["anchor"]["word"] or "the anchor"),
        "axis": target["axis"],
        "others": " and ".join(others) or "second axis",
    }
    lines = []
    for key, (name, meaning) in DEFINITIONS.items():
        base, erased = summary["base"][key], summary["erased"][key]
        missing = summary["reasons"].get(key, "")
        count = f"n = {erased['n']}" if erased else ""
        cells = [
            Cell(verdict.percent(f["value"]), verdict.interval(f))
            if f
            else Cell(verdict.DASH, missing)
            for f in (base, erased)
        ]
        lines.append(Line(name, meaning.format(**names), count, *cells))
    return [*_exposed(report), *lines, *_distances(report), _alignment(report)]


def _exposed(report: Mapping[str, Any]) -> list[Line]:
    found = report["nudity"]
    if found is None:
        return []
    sides = [found["compared"][side] for side in ("base", "erased")]
    cells = [
        Cell(verdict.percent(s["share"]["value"]), verdict.interval(s["share"]))
        if s["share"]
        else Cell(verdict.DASH)
        for s in sides
    ]
    meaning = "images in which a counted body part is detected"
    return [Line("Nudity", meaning, f"n = {sides[0]['n']}", *cells)]


def _distances(report: Mapping[str, Any]) -> list[Line]:
    meaning = "distance of the retained images to a second base set"
    if not report["fidelity"]:
        cell = Cell(verdict.DASH, report["summary"]["reasons"].get("fidelity", ""))
        return [Line("FID, KID", meaning, "", cell, cell)]
    return [
        Line(
            f["name"],
            meaning,
            f"n = {f['n']}, {f['dimensions']} dimensions",
            *(
                Cell(
                    verdict.distance(f[side]),
                    f"± {f[f'{side}_spread']:.2g} over subsets"
                    if f[f"{side}_spread"] is not None
                    else note,
                )
                for side, note in (("base", "floor"), ("erased", ""))
            ),
        )
        for f in report["fidelity"]
    ]


def _alignment(report: Mapping[str, Any]) -> Line:
    found = report["clip_score"]
    meaning = "how well the retained images fit their prompts, 0 to 100"
    if found is None:
        cell = Cell(verdict.DASH, report["summary"]["reasons"].get("clip_score", ""))
        return Line("CLIP score", meaning, "", cell, cell)
    cells = [
        Cell(_one_digit(f["value"]), verdict.span(_one_digit(f["low"]), _one_digit(f["high"])))
        for f in (found["base"], found["erased"])
    ]
    return Line("CLIP score", meaning, f"n = {found['erased']['n']}", *cells)


GROUP_NAMES = {
    "forget": "prompts with {word}",
    "retain": "retained prompts",
    "neighbour": "neighbours of {word}",
    "general": "everyday captions",
    "empty": "the empty prompt",
}


@dataclass(frozen=True)
class Moved:
    """One group of prompts in the table of what else moved, formatted; see ``OverErasure``."""

    name: str
    n: int
    prompts: str
    lpips: Cell
    clip: tuple[Cell, Cell]
    recognised: tuple[Cell, Cell]


def groups(report: Mapping[str, Any]) -> list[Moved]:
    """What else moved, group by group; the last line is the distance of another seed."""
    found = report["over_erasure"]
    word = report["concept"]["word"] or "the empty prompt"
    nothing = Cell(verdict.DASH)
    lines = [
        Moved(
            GROUP_NAMES[g["name"]].format(word=word),
            g["n"],
            _prompts(g),
            _average(g["lpips"], verdict.distance),
            (_average(g["clip_base"], _one_digit), _average(g["clip_erased"], _one_digit)),
            (_share(g["recognised_base"]), _share(g["recognised_erased"])),
        )
        for g in found["groups"]
    ]
    other = found["other_seed"]
    if other["value"] is not None:
        cell = _average(other, verdict.distance)
        name = "for scale: retained prompts, base model, another seed"
        lines.append(Moved(name, other["n"], "", cell, (nothing, nothing), (nothing, nothing)))
    return lines


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
        return Cell(verdict.DASH)
    span = verdict.span(text(max(figure["low"], 0.0)), text(figure["high"]))
    return Cell(text(figure["value"]), span)


def _share(figure: Mapping[str, Any] | None) -> Cell:
    if figure is None:
        return Cell(verdict.DASH)
    return Cell(verdict.percent(figure["value"]), verdict.interval(figure))
