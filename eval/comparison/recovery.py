"""What attacks brought back, in the comparison of recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
"""The largest recovery of the attacks that were tried on all attacked cells."""
BOUNDS = {"floor": "floor", "ceiling": "ceiling: the base"}
ABOUT = (
    "Images that show the concept before or by each attack, and by so many steps of it; R = "
    "(this − floor) / (ceiling − floor). The worst R is the largest of the attacks that have one. "
    "The floor is a model that never knew the concept, or the base asked by a made-up name."
)


def with_recovery(cells: Sequence[Cell], folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The cells with what attacks on their models brought back, where they were attacked.

    Attacks on a model that a cell had before are left out, and so are those that were not tried on
    all attacked cells; both are told. One that can't be made on a model, as what undoes an edit of
    another kind, was tried.

    Args:
        cells: contents of ``cell.json``.
        folders: of the same, which may hold attacks.

    Raises:
        UserError: attacks that can't be read, or of different budgets or floors.
    """
    found = [_of_cell(*each) for each in zip(cells, folders, strict=True)]
    known = [one for one in found if one is not None]
    _check_alike(known)
    common, dropped = _common(known)
    if dropped:
        note(
            f"not all attacked cells were attacked by {', '.join(dropped)}, so the table and its "
            "verdicts do without: make them by the same --attacks on all."
        )
    for name in common:
        made = [one for one in known if name in one["attacks"]]
        if len({one["facts"].get("code", {}).get(name) for one in made}) > 1:
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
        for key in ("sampler", "rows"):
            _refuse_apart(f"{key} for {concept}", [facts.get(key) for facts in own])
        for side in ("floor", "base"):
            prints = [facts.get("fingerprints", {}).get(side) for facts in own]
            _refuse_apart(f"{side}'s weights for {concept}", prints)


def _refuse_apart(what: str, told: Sequence[object]) -> None:
    if len(names := sorted({str(one) for one in told})) > 1:
        raise UserError(
            f"The cells were attacked with a different {what} ({' and '.join(names)}), so their "
            "recoveries can't be compared: attack them alike."
        )


def _common(known: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """The attacks that were tried on all, made on one at least, and those that were not."""
    made = dict.fromkeys(name for one in known for name in one["attacks"])
    tried = [{*one["attacks"], *one["refused"]} for one in known]
    common = [name for name in made if all(name in own for own in tried)]
    return common, [name for name in made if name not in common]


def _summary(one: Mapping[str, Any], common: Sequence[str]) -> dict[str, Any]:
    kept = (*SIDES, "recovery", "text", "curve", "rows")
    figures = {
        name: {key: value for key, value in one["attacks"][name].items() if key in kept}
        for name in common
        if name in one["attacks"]
    }
    known = {n: r for n, f in figures.items() if (r := f["recovery"]["value"]) is not None}
    worst = max(known, key=lambda name: known[name]) if known else None
    return {
        "verdict": read_verdict([one["attacks"][name] for name in figures]),
        "rows": one["facts"]["rows"],
        "budget": one["facts"]["budget"],
        "worst": known[worst] if worst else None,
        "by": worst,
        "attacks": figures,
    }


def attacks_of(cells: Sequence[Cell], side: str = "erased") -> list[CellColumn]:
    """A column for each attack, and for each point of its curve: the share of a side's images that
    show the concept."""
    first: dict[str, Mapping[str, Any]] = {}
    for cell in cells:
        for name, own in (cell.get("recovery") or {"attacks": {}})["attacks"].items():
            first.setdefault(name, own)
    found = []
    for name, own in first.items():
        found.append(_column(name, side))
        steps = (step for step in own["curve"].get(side, {}) if int(step))
        found += [_column(name, side, step) for step in steps]
    return found


def _column(name: str, side: str, step: str | None = None) -> CellColumn:
    def value(cell: Cell) -> Mapping[str, Any]:
        own = (cell.get("recovery") or {"attacks": {}})["attacks"].get(name, {side: {}})
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
