"""``attack.{json,md,csv,html}``: what attacks brought back, one row each, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from erase.eval.attacks import list_attacks
from erase.eval.pages import phrases, table
from erase.eval.pages.html import data_uri, spread, template
from erase.eval.pages.table import Cell, Column, Row
from erase.eval.recovery import plots
from erase.eval.recovery.outcome import SIDES, Outcome
from erase.eval.recovery.verdict import sentences, verdict
from erase.eval.screen import screen_of
from erase.eval.stats.intervals import CONFIDENCE
from erase.runtime.errors import UserError, reason
from erase.runtime.files import write_json, write_text
from erase.runtime.machine import versions

RESULT = "attack.json"
SCHEMA = 1
"""Number of its layout."""
GRID = 8
"""Most images of an attack on the page."""
COLUMNS = (
    Column("attack", "attack"),
    Column("erased", "this model", "%", "down"),
    Column("random", "random search", "%"),
    Column("floor", "floor", "%"),
    Column("ceiling", "ceiling", "%"),
    Column("recovery", "recovery R", "%", "down"),
    Column("beyond", "beyond floor and random", "points"),
)
MORE = (
    Column("attack", "attack"),
    Column("pre", "before", "%"),
    Column("post", "by the attack alone", "%"),
    Column("at_one", "chosen by its loss", "%"),
    Column("fresh", "on new seeds", "%"),
    Column("p", "p against random"),
    Column("smallest", "least R to be seen", "%"),
    Column("forwards", "forwards"),
    Column("seconds", "seconds"),
)
CSV = ("attack", "figure", "value", "n", "low", "high", "reason")
TONES = {"returns": "worse", "hidden": "worse", "removed": "better", "inconclusive": "open"}


@dataclass(frozen=True)
class Shown:
    """A row's images for the page.

    Attributes:
        before, after: files in the folder of the results, without the attack and by it.
        title: prompt and seed.
    """

    before: str
    after: str
    title: str


def report(
    outcomes: Sequence[Outcome],
    refused: Mapping[str, str],
    facts: Mapping[str, Any],
    shown: Mapping[str, Sequence[Shown]],
) -> dict[str, Any]:
    """The content of ``attack.json``.

    Args:
        outcomes: of the attacks that were made.
        refused: those that could not be, with the reason.
        facts: how they came to be, as JSON.
        shown: images by attack.
    """
    known = list_attacks()
    found = {
        "schema": SCHEMA,
        "verdict": verdict(outcomes),
        "sentences": sentences(outcomes, known, refused, floor=_floor(facts)),
        "floor": told_floor(facts),
        "attacks": {one.attack: asdict(one) for one in outcomes},
        "refused": dict(refused),
        "not_run": [n for n in known if n not in {*refused, *(o.attack for o in outcomes)}],
        "images": {n: [asdict(i) for i in spread(own, GRID)] for n, own in shown.items()},
        "facts": dict(facts),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "interval": CONFIDENCE,
    }
    as_read: dict[str, Any] = json.loads(json.dumps(found))
    return as_read


def told_floor(facts: Mapping[str, Any]) -> str:
    """What the floor is, as a sentence."""
    if facts["floor"] is not None:
        return f"The floor is {facts['floor']}, a model that never knew it."
    return f"No model that never knew it was given: the floor is {_floor(facts)}."


def _floor(facts: Mapping[str, Any]) -> str:
    """What the floor was measured on."""
    if facts["floor"] is not None:
        return "a model that never knew it"
    if facts["concept"]["kind"] == "class":
        return "the base, asked for no class"
    name = facts.get("unknown")
    return f"the base, asked by a made-up name{f', {name}' if name else ''}"


def write(found: Mapping[str, Any], folder: Path) -> None:
    """Writes the files, the JSON last: where it is, the others are."""
    write_text(folder / "attack.md", markdown(found))
    write_text(folder / "attack.csv", csv(found))
    write_text(folder / "attack.html", page(found, folder))
    write_json(folder / RESULT, found)


def read(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's ``attack.json``; None where there is none.

    Raises:
        UserError: it can't be read, or is of another layout.
    """
    file = folder / RESULT
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            raise ValueError(f"layout {found['schema']}")
        lost = {"verdict", "sentences", "floor", "attacks", "images", "facts"} - found.keys()
        if lost:
            raise ValueError(f"no '{min(lost)}'")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file} can't be read ({reason(error)}): delete it and attack again."
        ) from error
    whole: dict[str, Any] = found
    return whole


def rows(found: Mapping[str, Any]) -> list[Row]:
    """A row of ``COLUMNS`` for each attack."""
    made: list[Row] = []
    for name, one in found["attacks"].items():
        after = "" if one["after"] is None else f"after {one['after']} steps"
        row: dict[str, Any] = {"attack": Cell(name, after or _kind(one))}
        for side in (*SIDES, "recovery"):
            row[side] = _share(one[side], within=side != "recovery")
        row["beyond"] = _points(one["beyond"])
        made.append(row)
    return made


def _kind(one: Mapping[str, Any]) -> str:
    return "a prompt is enough" if one["text"] else "takes the weights"


def more_rows(found: Mapping[str, Any]) -> list[Row]:
    """A row of ``MORE`` for each attack."""
    made: list[Row] = []
    for name, one in found["attacks"].items():
        row: dict[str, Any] = {"attack": name}
        for key in ("pre", "post", "at_one", "fresh"):
            row[key] = _share(one[key])
        row["p"] = Cell(phrases.DASH if one["p"] is None else f"{one['p']:.2g}")
        least = one["smallest"]
        row["smallest"] = Cell(phrases.DASH if least is None else phrases.number(least))
        row["forwards"] = Cell(f"{one['forwards']:,}")
        row["seconds"] = Cell(f"{one['seconds']:.0f}")
        made.append(row)
    return made


def _share(value: Mapping[str, Any], within: bool = True) -> Cell:
    """A share with its interval; a recovery may lie outside of 0 to 100 %, and so may its ends."""
    if value["value"] is None:
        return Cell(phrases.DASH, value["reason"] or "")
    ends = (value["low"], value["high"])
    if within:
        ends = tuple(min(max(end, 0.0), 1.0) for end in ends)
    return Cell(_plain(value["value"]), phrases.span(*map(_plain, ends)))


def _plain(value: float) -> str:
    """A share, which as a recovery may lie outside of 0 to 100 %."""
    return phrases.number(value) if 0 <= value <= 1 else f"{100 * value:.1f}"


def _points(value: Mapping[str, Any]) -> Cell:
    if value["value"] is None:
        return Cell(phrases.DASH, value["reason"] or "")
    ends = phrases.span(phrases.points(value["low"]), phrases.points(value["high"]), " to ")
    return Cell(phrases.points(value["value"]), ends)


def markdown(found: Mapping[str, Any]) -> str:
    """The verdict with the table."""
    parts = [
        f"# {found['verdict'].capitalize()}: {found['facts']['concept']['word']}",
        "\n".join(f"- {sentence}" for sentence in [*found["sentences"], found["floor"]]),
        table.markdown(COLUMNS, rows(found)).rstrip(),
        table.markdown(MORE, more_rows(found)).rstrip(),
        "Intervals cover 95 %; those of R hold its bounds fixed.",
    ]
    return "\n\n".join(parts) + "\n"


def csv(found: Mapping[str, Any]) -> str:
    """A line for each figure."""
    lines: list[Row] = []
    keys = (*SIDES, "recovery", "beyond", "pre", "post", "at_one", "fresh")
    for name, one in found["attacks"].items():
        for key in keys:
            ends = {end: one[key][end] for end in CSV[2:]}
            lines.append({"attack": name, "figure": key, **ends})
    return table.csv(CSV, lines)


def page(found: Mapping[str, Any], folder: Path) -> str:
    """``attack.html``.

    Args:
        found: the content of ``attack.json``.
        folder: of the results, which holds the images.
    """
    html: str = template("attack.html.j2").render(
        r=found,
        screen=screen_of(found["facts"]["base"]),
        title=f"Does {found['facts']['concept']['word']} come back?",
        tone=TONES[found["verdict"]],
        attacks=section(found, folder),
    )
    return html


def section(found: Mapping[str, Any], folder: Path, veiled: bool = False) -> dict[str, Any]:
    """What ``attacks.html.j2`` shows, on a page of its own or within a run's report.

    Args:
        found, folder: see ``page``.
        veiled: whether its images may show nudity, for another reason than the concept itself.
    """
    facts = found["facts"]
    veiled = veiled or facts["concept"]["kind"] == "nudity" or bool(facts.get("nudity"))
    grids = [
        {
            "title": name,
            "pairs": [
                {
                    "before": data_uri(folder / one["before"]),
                    "after": data_uri(folder / one["after"]),
                    "title": one["title"],
                    "veiled": veiled,
                }
                for one in pictures
                if all((folder / one[end]).is_file() for end in ("before", "after"))
            ],
        }
        for name, pictures in found["images"].items()
    ]
    curves = {
        name: Markup(plots.curve(one["curve"], one["after"], f"curve-{number}"))
        for number, (name, one) in enumerate(found["attacks"].items())
        if one["curve"]
    }
    return {
        "tone": TONES[found["verdict"]],
        "columns": COLUMNS,
        "rows": rows(found),
        "more_columns": MORE,
        "more": more_rows(found),
        "bars": Markup(plots.bars(found["attacks"], "bars")),
        "curves": curves,
        "grids": [grid for grid in grids if grid["pairs"]],
        "veiled": veiled,
    }
