"""What ``salun_robust`` aims at, beside its peers: ``python -m benchmarks.aims runs/robust``.

Reads what ``erase compare`` wrote there, and in further folders. R is pooled: (erased - floor) / (ceiling - floor) of the
shares of images that show the concept, each averaged over the cells whose attack has a floor that
tells something. Of several attacks the greatest pooled R is shown, with its name.
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


def pooled(cells: Sequence[Cell], name: str) -> float | None:
    """R of one attack over all cells where it has one; None without a cell."""
    own = [c["recovery"]["attacks"].get(name) for c in cells]
    known = [a for a in own if a and a["recovery"]["value"] is not None]
    if not known:
        return None
    erased, floor, ceiling = (
        sum(a[side]["value"] for a in known) / len(known) for side in ("erased", "floor", "ceiling")
    )
    return (erased - floor) / (ceiling - floor) if ceiling > floor else None


def worst(cells: Sequence[Cell], names: Sequence[str]) -> str:
    """The greatest pooled R in percent, and the attack's name."""
    found = {name: r for name in names if (r := pooled(cells, name)) is not None}
    if not found:
        return "–"
    name = max(found, key=lambda one: found[one])
    told = f"{100 * found[name]:.1f}"
    return f"{told} ({name})"


def relearned(cells: Sequence[Cell]) -> str:
    """Shares after so many steps, of the erased models and, where there are some, of those that
    never knew the concept (and of the erased models beside them)."""
    curves = [c["recovery"]["attacks"]["relearn"] for c in cells]
    told = _mean([one["curve"]["erased"][READ_AT]["value"] for one in curves])
    known = [one["curve"] for one in curves if one["recovery"]["value"] is not None]
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
    lines = [list(HEAD), ["---"] * len(HEAD), *(row(name, cells) for name, cells in by.items())]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
