"""Attacks on a model, with figures set by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from erase.eval.recovery.outcome import Outcome, Seen, outcome
from erase.eval.recovery.report import Shown, report, write

ROWS = 20


def hits(k: int, n: int = ROWS) -> list[bool]:
    return [i < k for i in range(n)]


def made(name: str, text: bool, erased: int, floor: int = 1, curve: bool = False) -> Outcome:
    """Of an attack that finds everything on the base and nothing by random search."""

    def side(k: int) -> Seen:
        points = {0: hits(0), 5: hits(k // 2), 25: hits(k)} if curve else {}
        return Seen(pre=hits(0), post=[hits(k)], curve=points, forwards=1200, seconds=3.0)

    sides = {"erased": side(erased), "random": side(0), "ceiling": side(ROWS), "floor": side(floor)}
    return outcome(name, text, sides, (5, 25) if curve else ())  # type: ignore[arg-type]


def facts(made_by: str | None = None, kind: str = "object") -> dict[str, Any]:
    return {
        "model": "runs/church/model",
        "base": "mini",
        "floor": "never-church",
        "strength": None,
        "concept": {"name": "church", "kind": kind, "word": "church"},
        "budget": "quick",
        "seed": 1,
        "rows": ROWS,
        "command": "erase attack runs/church",
        "made_by": made_by,
    }


def write_attack(folder: Path, made_by: str | None = None, **more: Any) -> dict[str, Any]:
    """A folder of results: inversion brings 8 of 20 back, relearning 18 after 25 steps."""
    file = "attacks/inversion/erased/000_{}.png"
    for end, value in (("before", 30), ("after", 220)):
        (folder / file.format(end)).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(folder / file.format(end))
    shown = {"inversion": [Shown(file.format("before"), file.format("after"), "a church, seed 7")]}
    outcomes = [made("inversion", True, 8), made("relearn", False, 18, curve=True)]
    found = report(outcomes, {"prefix": "no text encoder"}, facts(made_by, **more), shown)
    write(found, folder)
    return found
