"""What ``salun_robust`` aims at, beside its peers: ``python -m benchmarks.aims runs/robust``.

Reads what ``erase compare`` wrote there, and in further folders. R is pooled: (erased - floor) /
(ceiling - floor) of the shares of images that show the concept, each averaged over all cells where
the attack has all three; an attack whose ceiling is less than half above its floor tells nothing.
Of several attacks the greatest pooled R is shown, with its name: a maximum of several, so rather
too high than too low.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TEXT = ("prefix", "ring-a-bell", "paraphrase", "words")
INVERSION = ("inversion", "multi-inversion")
UNLIKE = ("prefix", "ring-a-bell", "paraphrase", "latent", "handover")
"""Attacks of another kind than the training's embeddings in the word's place."""
FIGURES = (
    ("ua", "", "UA %", 100.0),
    ("became_anchor", "", "became the anchor %", 100.0),
    ("ira", "", "IRA %", 100.0),
    ("cra", "", "CRA %", 100.0),
    ("fid", "", "FID[mini]", 1.0),
    ("lpips", "general", "LPIPS[mini], everyday", 1.0),
)
"""Key, group, heading and factor."""
SIDES = ("erased", "floor", "ceiling")
TOLD = 0.5
"""Least distance of a pooled ceiling from its floor."""
READ_AT = "10"
"""Steps after which relearning is held against a model that never knew the concept."""
HEAD = (
    "recipe",
    "text R %",
    "inversion R %",
    "another kind R %",
    "any R %",
    f"relearn, {READ_AT} steps % (never knew)",
    *(name for _, _, name, _ in FIGURES),
    "seconds",
    "forwards",
    "cells",
)

Cell = Mapping[str, Any]


def pooled(cells: Sequence[Cell], name: str) -> tuple[float, int] | None:
    """R of one attack, and of how many cells; None where it tells nothing."""
    own = [c["recovery"]["attacks"].get(name) for c in cells]
    known = [a for a in own if a and all(a[side]["value"] is not None for side in SIDES)]
    if not known:
        return None
    erased, floor, ceiling = (sum(a[side]["value"] for a in known) / len(known) for side in SIDES)
    if ceiling - floor < TOLD:
        return None
    return (erased - floor) / (ceiling - floor), len(known)


def worst(cells: Sequence[Cell], names: Sequence[str]) -> str:
    """The greatest pooled R in percent, the attack's name and, where not all, its cells."""
    found = {name: r for name in names if (r := pooled(cells, name)) is not None}
    if not found:
        return "–"
    name = max(found, key=lambda one: found[one][0])
    r, count = found[name]
    on = name if count == len(cells) else f"{name}, {count} of {len(cells)} cells"
    return f"{100 * r:.1f} ({on})"


def relearned(cells: Sequence[Cell]) -> str:
    """Shares after so many steps, of the erased models and, where there are some, of those that
    never knew the concept (and of the erased models beside them)."""
    curves = [one["curve"] for c in cells if (one := c["recovery"]["attacks"].get("relearn"))]
    if not curves:
        return "–"
    told = _mean([curve["erased"][READ_AT]["value"] for curve in curves])
    known = [curve for curve in curves if READ_AT in curve.get("floor", {})]
    if not known:
        return told
    own, never = (_mean([c[side][READ_AT]["value"] for c in known]) for side in ("erased", "floor"))
    return f"{told} ({own} against {never})"


def _mean(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f}"


def measured(cells: Sequence[Cell], key: str, group: str) -> float | None:
    """The mean over the cells of one figure of what the erased models make."""
    own = [
        f["value"]
        for c in cells
        for f in c["figures"]
        if (f["key"], f["side"], f["group"]) == (key, "erased", group) and f["value"] is not None
    ]
    return sum(own) / len(own) if own else None


def check(recipe: str, cells: Sequence[Cell]) -> None:
    """Ends the program where a recipe's cells are not to be averaged."""
    if len({(c["concept"], c["seed"]) for c in cells}) < len(cells):
        raise SystemExit(f"{recipe} has a cell twice: name each comparison once.")
    for what in ("settings", "base"):
        if any(c[what] != cells[0][what] for c in cells):
            raise SystemExit(f"{recipe} has cells that differ in {what}.")
    if len({c["recovery"]["budget"] for c in cells}) > 1:
        raise SystemExit(f"{recipe} was attacked with different budgets.")


def row(recipe: str, cells: Sequence[Cell]) -> list[str]:
    """A line of the table."""
    attacks = list(dict.fromkeys(name for c in cells for name in c["recovery"]["attacks"]))
    told = []
    for key, group, _, factor in FIGURES:
        value = measured(cells, key, group)
        told.append("–" if value is None else f"{factor * value:.{1 if factor > 1 else 2}f}")
    seconds, forwards = (
        [c[key] for c in cells if c[key] is not None] for key in ("training_seconds", "forwards")
    )
    return [
        recipe,
        worst(cells, TEXT),
        worst(cells, INVERSION),
        worst(cells, UNLIKE),
        worst(cells, attacks),
        relearned(cells),
        *told,
        *(f"{sum(x) / len(x):.0f}" if x else "–" for x in (seconds, forwards)),
        str(len(cells)),
    ]


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", nargs="+", type=Path, help="folder of a comparison whose cells were attacked"
    )
    by: dict[str, list[Cell]] = {}
    for run in parser.parse_args().run:
        for cell in json.loads((run / "compare.json").read_text(encoding="utf-8"))["cells"]:
            if cell.get("recovery"):
                by.setdefault(cell["recipe"], []).append(cell)
    for name, cells in by.items():
        check(name, cells)
    lines = [list(HEAD), ["---"] * len(HEAD), *(row(name, cells) for name, cells in by.items())]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
