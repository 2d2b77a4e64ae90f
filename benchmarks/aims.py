"""What ``salun_robust`` aims at, beside its peers: ``python -m benchmarks.aims runs/robust``.

Reads what ``erase compare`` wrote there. R is pooled: (erased - floor) / (ceiling - floor) of the
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
READ_AT = "10"
"""Steps after which relearning is held against a model that never knew the concept."""
HEAD = (
    "recipe",
    "text R %",
    "inversion R %",
    "another kind R %",
    "any R %",
    f"relearn, {READ_AT} steps % (never knew)",
    "IRA %",
    "CRA %",
    "FID[mini]",
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


def row(figures: Mapping[str, Any], recipe: str, cells: Sequence[Cell]) -> list[str]:
    """A line of the table."""
    attacks = list(dict.fromkeys(name for c in cells for name in c["recovery"]["attacks"]))
    fid = figures["fid"]
    return [
        recipe,
        worst(cells, TEXT),
        worst(cells, INVERSION),
        worst(cells, UNLIKE),
        worst(cells, attacks),
        relearned(cells),
        *(f"{100 * figures[key]['value']:.1f}" for key in ("ira", "cra")),
        f"{fid['value']:.2f}" if fid else "–",
        "–" if cells[0]["forwards"] is None else f"{cells[0]['forwards']:.0f}",
        str(len(cells)),
    ]


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a comparison whose cells were attacked")
    found = json.loads((parser.parse_args().run / "compare.json").read_text(encoding="utf-8"))
    lines = [list(HEAD), ["---"] * len(HEAD)]
    for one in found["rows"]:
        cells = [c for c in found["cells"] if c["recipe"] == one["recipe"] and c.get("recovery")]
        if cells:
            lines.append(row(one["figures"], one["recipe"], cells))
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
