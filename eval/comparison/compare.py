"""The comparison of recipes: one row each over concepts and seeds, from the cells of a matrix."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from erase.eval.comparison.columns import UNPAIRED, columns_of
from erase.eval.comparison.recovery import BOUNDS, WORST, attacks_of, verdicts
from erase.eval.comparison.told import measured_by
from erase.eval.figure import Cell, CellColumn
from erase.eval.pages.phrases import complement
from erase.eval.stats.intervals import Mean, bootstrap, pooled
from erase.runtime.errors import UserError

SCHEMA = 1
"""Number of the layout of ``compare.json``."""
NEEDED = ("recipe", "method", "concept", "seed", "base", "settings", "summary", "fidelity")
"""What a cell can't be read without."""


def _fid_floor(cell: Cell) -> float | None:
    found = next((f for f in cell["fidelity"] if f["name"].startswith("FID")), None)
    return None if found is None else float(found["base"])


def cell_facts(run: Path) -> dict[str, Any]:
    """What the comparison needs of a finished run: small enough to be kept for good.

    Seconds and memory are those of mask and training; what making the images to train on took is
    counted apart, since runs share them.
    """
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    made = report["provenance"]
    seconds, memory = made["seconds"], made["peak_memory_mb"]
    # Without a mask, not even of all weights, the model was not made here.
    trained = "mask" in seconds
    return {
        "schema": SCHEMA,
        **report["run"],
        "kind": report["concept"]["kind"],
        "settings": made["recipe"],
        "base": made["model"].get("fingerprint"),
        "images": report["images"],
        "summary": _summary(report),
        "per_class": report["per_class"],
        "became": report["became"],
        "fidelity": report["fidelity"],
        "clip_score": report["clip_score"],
        "nudity": _shares(report["nudity"]),
        "over_erasure": report["over_erasure"],
        "figures": report.get("figures", []),
        "warnings": report["warnings"],
        "measured_by": measured_by(made["metrics"]),
        "training_seconds": round(sum(seconds.get(s, 0.0) for s in ("mask", "train")), 1)
        if trained
        else None,
        "training_memory_mb": max(memory.get(s, 0) for s in ("mask", "train")) if trained else None,
        "seconds": seconds,
        "device": made["device"],
        "versions": made["versions"],
    }


def _summary(report: Mapping[str, Any]) -> dict[str, Any]:
    """The headline figures; UA of nudity is 1 - the share of flagged images."""
    found, flagged = dict(report["summary"]), _shares(report["nudity"])
    if report["concept"]["kind"] == "nudity" and flagged:
        for side in ("base", "erased"):
            found[side] = {**found[side], "ua": complement(flagged[side])}
    return found


def _shares(nudity: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Both sides' shares of images with a counted body part, and what was counted."""
    if nudity is None or nudity["compared"]["base"]["share"] is None:
        return None
    sides = {side: nudity["compared"][side]["share"] for side in ("base", "erased")}
    return {**sides, "change": nudity["compared"]["change"], "facts": nudity["facts"]}


def read_cells(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Reads ``cell.json`` files.

    Raises:
        UserError: one can't be read, or is of another layout.
    """
    found = []
    for file in files:
        try:
            cell = json.loads(file.read_text(encoding="utf-8"))
            if cell["schema"] != SCHEMA:
                raise ValueError(f"layout {cell['schema']}")
            if lost := [key for key in NEEDED if key not in cell]:
                raise ValueError(f"no '{lost[0]}'")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file} can't be read ({error}): remove it and compare again."
            ) from error
        found.append(cell)
    return found


def row(
    recipe: str, cells: Sequence[Cell], columns: Sequence[CellColumn] | None = None
) -> dict[str, Any]:
    """A recipe's figures over its cells, each with an interval over the concepts.

    Args:
        columns: of the whole comparison, whose other cells may have more; None for the cells' own.
    """
    figures = {c.key: _figure(cells, c) for c in columns or columns_of(cells)}
    return {
        "recipe": recipe,
        "method": cells[0]["method"],
        "concepts": len({c["concept"] for c in cells}),
        "seeds": sorted({c["seed"] for c in cells}),
        "cells": len(cells),
        "settings": cells[0]["settings"],
        "figures": figures,
        "fid_floor": _plain([_fid_floor(c) for c in cells]),
    }


def base_row(cells: Sequence[Cell]) -> dict[str, Any]:
    """The base model's own figures on the same prompts and seeds, one cell a concept."""
    once = {c["concept"]: c for c in cells}
    return row("base model", [_as_base(c) for c in once.values()], columns_of(cells))


def _as_base(cell: Cell) -> Cell:
    score = cell["clip_score"]
    return {
        **cell,
        "method": None,
        "settings": {},
        "summary": {"erased": cell["summary"]["base"]},
        "fidelity": [{**f, "erased": f["base"]} for f in cell["fidelity"]],
        "clip_score": None if score is None else {"erased": score["base"]},
        "nudity": cell["nudity"] and {"erased": cell["nudity"]["base"]},
        "over_erasure": {"groups": []},
        "figures": [
            {**f, "side": "erased"} for f in cell.get("figures", ()) if f["side"] == "base"
        ],
        "training_seconds": None,
        "image_seconds": None,
        "forwards": None,
        "image_forwards": None,
        "training_memory_mb": None,
        "moved": 0,
        "bytes": 0,
        "recovery": None,
    }


def under_attack(cells: Sequence[Cell], names: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of what attacks brought back: the recipes that were attacked, then the bounds."""
    attacks = attacks_of(cells)
    found = []
    for name in names:
        own = [c for c in cells if c["recipe"] == name and c.get("recovery")]
        if own:
            figures = {a.key: _figure(own, a) for a in (*attacks, WORST)}
            found.append((name, verdicts(own), figures))
    attacked = [c for c in cells if c.get("recovery")]
    for side, title in BOUNDS.items():
        of_side = attacks_of(attacked, side)
        found.append((title, "", {a.key: _figure(_once(attacked, a), a) for a in of_side}))
    return [
        {"recipe": name, "verdicts": told, "figures": figures}
        for name, told, figures in found
        if attacks
    ]


def _once(cells: Sequence[Cell], column: CellColumn) -> list[Cell]:
    """A cell of each concept that has the figure: to some, an attack does not apply."""
    found = {c["concept"]: c for c in cells if column.of(c) is not None}
    return list(found.values())


def _figure(cells: Sequence[Cell], column: CellColumn) -> dict[str, Any] | None:
    """A mean as JSON, with how many of the cells have the figure."""
    mean = _mean(cells, column)
    if mean is None:
        return None
    return {**asdict(mean), "cells": sum(column.of(cell) is not None for cell in cells)}


def _mean(cells: Sequence[Cell], column: CellColumn) -> Mean | None:
    groups: dict[str, list[tuple[float, int]]] = {}
    for cell in cells:
        value = column.of(cell)
        if value is not None:
            n = column.n(cell) if column.n else 1
            groups.setdefault(cell["concept"], []).append((value, n))
    if not groups:
        return None
    if column.n:
        return pooled(list(groups.values()))
    return bootstrap([[value for value, _ in group] for group in groups.values()])


def _plain(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return fmean(known) if known else None


def by_place(cells: Sequence[Cell], name: str) -> dict[tuple[str, int], Cell]:
    """A row's cells by concept and seed; a model that no seed made stands at each of its
    concept's."""
    found = {}
    for cell in (c for c in cells if c["recipe"] == name):
        concept = cell["concept"]
        every = {c["seed"] for c in cells if c["concept"] == concept}
        for seed in every if cell.get("seedless") else {cell["seed"]}:
            found[concept, seed] = cell
    return found


def paired(cells: Sequence[Cell], first: str, second: str) -> dict[str, Any]:
    """Differences ``first`` minus ``second`` over the concepts and seeds that both have.

    Averaged over a concept's seeds, interval by bootstrap over the concepts.
    """
    by = {name: by_place(cells, name) for name in (first, second)}
    common = sorted(set(by[first]) & set(by[second]))
    found: dict[str, Any] = {"first": first, "second": second, "cells": len(common)}
    columns = {c.key: c for c in (*columns_of(cells), *attacks_of(cells))}
    for key in (key for key in columns if key not in UNPAIRED):
        groups: dict[str, list[float]] = {}
        for place in common:
            a, b = (columns[key].of(by[name][place]) for name in (first, second))
            if a is not None and b is not None:
                groups.setdefault(place[0], []).append(a - b)
        count = sum(map(len, groups.values()))
        mean = bootstrap(list(groups.values())) if groups else None
        found[key] = mean and {**asdict(mean), "cells": count}
    return found


def ranking(cells: Sequence[Cell], names: Sequence[str]) -> dict[str, Any]:
    """Harmonic means over the cells in which all recipes have one, so that none is spared a hard
    one."""
    harmonic = {c.key: c for c in columns_of(cells)}["harmonic"]
    own = [
        {place: c for place, c in by_place(cells, name).items() if harmonic.of(c) is not None}
        for name in names
    ]
    common = set.intersection(*(set(places) for places in own)) if own else set()
    found = {}
    for name, places in zip(names, own, strict=True):
        mean = _mean([places[place] for place in sorted(common)], harmonic)
        found[name] = None if mean is None else mean.value
    return {"cells": len(common), "harmonic": found}


def compare(
    cells: Sequence[Cell],
    order: Sequence[str],
    unfinished: Sequence[str] = (),
    others: Sequence[str] = (),
) -> dict[str, Any]:
    """The content of ``compare.json``: rows in the order of the recipes, the first one paired
    with every other.

    Args:
        cells: finished ones.
        order: names of the rows.
        unfinished: titles of the cells that are missing.
        others: titles of those among ``cells`` that another command made.
    """
    names = [n for n in order if any(c["recipe"] == n for c in cells)]
    places = {n: set(by_place(cells, n)) for n in names}
    every = set().union(*places.values())
    columns = columns_of(cells)
    rows = [
        row(n, [c for c in cells if c["recipe"] == n], columns) | {"complete": places[n] == every}
        for n in names
    ]
    return {
        "schema": SCHEMA,
        "model": cells[0]["model"] if cells else None,
        "base": cells[0]["base"] if cells else None,
        "base_row": base_row(cells) if cells else None,
        "rows": rows,
        "ranking": ranking(cells, names),
        "unfinished": list(unfinished),
        "others": list(others),
        "paired": [paired(cells, names[0], other) for other in names[1:]],
        "attacks": under_attack(cells, names),
        "cells": list(cells),
    }
