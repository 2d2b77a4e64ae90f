"""What attacks brought back, in the comparison of recipes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from erase.eval.figure import Cell, CellColumn
from erase.eval.recovery import ATTACK
from erase.eval.recovery.outcome import SIDES
from erase.eval.recovery.report import read
from erase.eval.recovery.verdict import read_verdict
from erase.runtime.errors import UserError
from erase.runtime.notes import note

WORST = CellColumn(
    "recovery", "worst R", "%", "down", of=lambda c: (c.get("recovery") or {}).get("worst")
)
"""The largest recovery of the attacks that all attacked cells have in common."""
BOUNDS = {"floor": "floor", "ceiling": "ceiling: the base"}
ABOUT = (
    "Images that show the concept before or by each attack, and by so many steps of it; R = "
    "(this − floor) / (ceiling − floor). The worst R is the largest of the attacks that have one. "
    "The floor is a model that never knew the concept, or the base asked by a made-up name."
)


def with_recovery(cells: Sequence[Cell], folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The cells with what attacks on their models brought back, where they were attacked.

    Attacks on a model that a cell had before are left out, and so are those that not all attacked
    cells have; both are told.

    Args:
        cells: contents of ``cell.json``.
        folders: of the same, which may hold attacks.

    Raises:
        UserError: attacks that can't be read, or of different budgets or floors.
    """
    found = [_of_cell(*each) for each in zip(cells, folders, strict=True)]
    known = [one for one in found if one is not None]
    _check_alike(known)
    common = _common(one["attacks"] for one in known)
    if dropped := sorted({name for one in known for name in one["attacks"]} - {*common}):
        note(
            f"not all attacked cells have {', '.join(dropped)}, so the table and its verdicts do "
            "without: make them by the same --attacks on all."
        )
    for name in common:
        if len({one["facts"].get("code", {}).get(name) for one in known}) > 1:
            note(
                f"the cells were attacked by different versions of {name}: compare with --attacks "
                "and --overwrite for one."
            )
    return [
        {**cell} if one is None else {**cell, "recovery": _summary(one, common)}
        for cell, one in zip(cells, found, strict=True)
    ]


def _of_cell(cell: Cell, folder: Path) -> dict[str, Any] | None:
    """The attacks on a cell's model; None where there are none, or of one that it no longer has."""
    found = read(folder / ATTACK)
    if found is None or found["facts"].get("inputs", cell.get("inputs")) == cell.get("inputs"):
        return found
    note(
        f"the attacks in {folder} are on the model that it held before, and are left out: compare "
        "with --attacks again."
    )
    return None


def _check_alike(known: Sequence[Mapping[str, Any]]) -> None:
    """Refuses attacks whose recoveries can't be compared.

    Args:
        known: contents of ``attack.json``.

    Raises:
        UserError: of different budgets, or on different bounds.
    """
    _refuse_apart("budget", [one["facts"]["budget"] for one in known])
    for concept in {one["facts"]["concept"]["name"] for one in known}:
        own = [one["facts"] for one in known if one["facts"]["concept"]["name"] == concept]
        _refuse_apart(f"floor for {concept}", [facts["floor"] for facts in own])
        for side in ("floor", "base"):
            prints = [facts.get("fingerprints", {}).get(side) for facts in own]
            _refuse_apart(f"{side}'s weights for {concept}", prints)


def _refuse_apart(what: str, told: Sequence[object]) -> None:
    if len(names := sorted({str(one) for one in told})) > 1:
        raise UserError(
            f"The cells were attacked with a different {what} ({' and '.join(names)}), so their "
            "recoveries can't be compared: attack them alike."
        )


def _common(each: Iterable[Mapping[str, Any]]) -> list[str]:
    """The attacks that all have, in the order of the first."""
    names = [list(one) for one in each]
    return [n for n in names[0] if all(n in other for other in names)] if names else []


def _summary(one: Mapping[str, Any], common: Sequence[str]) -> dict[str, Any]:
    kept = (*SIDES, "recovery", "text", "curve", "rows")
    figures = {
        name: {key: value for key, value in one["attacks"][name].items() if key in kept}
        for name in common
    }
    known = {n: r for n, f in figures.items() if (r := f["recovery"]["value"]) is not None}
    worst = max(known, key=lambda name: known[name]) if known else None
    return {
        "verdict": read_verdict([one["attacks"][name] for name in common]),
        "rows": one["facts"]["rows"],
        "budget": one["facts"]["budget"],
        "worst": known[worst] if worst else None,
        "by": worst,
        "attacks": figures,
    }


def attacks_of(cells: Sequence[Cell], side: str = "erased") -> list[CellColumn]:
    """A column for each attack, and for each point of its curve: the share of a side's images that
    show the concept."""
    first = next((c["recovery"] for c in cells if c.get("recovery")), None)
    found = []
    for name, own in (first["attacks"] if first else {}).items():
        found.append(_column(name, side))
        steps = (step for step in own["curve"].get(side, {}) if int(step))
        found += [_column(name, side, step) for step in steps]
    return found


def _column(name: str, side: str, step: str | None = None) -> CellColumn:
    def value(cell: Cell) -> Mapping[str, Any]:
        own = cell["recovery"]["attacks"][name] if cell.get("recovery") else {side: {}}
        found: Mapping[str, Any] = own[side] if step is None else own.get("curve", {}).get(side, {})
        return found if step is None else found.get(step, {})

    def rows(cell: Cell) -> int:
        own = cell["recovery"]["attacks"][name]
        return int(own.get("rows") or cell["recovery"]["rows"])

    title = name if step is None else f"{name}, {step} steps"
    key = name if step is None else f"{name}@{step}"
    return CellColumn(
        key,
        title,
        "%",
        "down",
        of=lambda cell: value(cell).get("value"),
        # Images of one embedding are hardly more than one sample: the rows count, not restarts.
        n=lambda cell: min(int(value(cell).get("n") or 0), rows(cell)),
    )


def verdicts(cells: Sequence[Cell]) -> str:
    """How many of the cells came to which verdict, in words."""
    told = [c["recovery"]["verdict"] for c in cells if c.get("recovery")]
    return ", ".join(f"{told.count(v)} {v}" for v in dict.fromkeys(sorted(told)))
