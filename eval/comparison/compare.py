"""The comparison of recipes: one row each over concepts and seeds, from the cells of a matrix."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from erase.eval.figure import column_of
from erase.eval.pages import table
from erase.eval.stats.intervals import Mean, bootstrap, pooled
from erase.runtime.errors import UserError

SCHEMA = 1
"""Number of the layout of ``compare.json``."""
Cell = Mapping[str, Any]
"""The content of a ``cell.json``."""
NEEDED = ("recipe", "method", "concept", "seed", "base", "settings", "summary", "fidelity")
"""What a cell can't be read without."""


@dataclass(frozen=True)
class Column(table.Column):
    """A figure of the table.

    Attributes:
        of: reads it from a cell; None where not measured.
        n: images of which the value is a share; None where it is none.
        scale: what a value without a unit is multiplied by when printed.
    """

    of: Callable[[Cell], float | None] = lambda cell: None
    n: Callable[[Cell], int] | None = None
    scale: float = 1.0

    def text(self, value: float) -> str:
        """A value as the tables print it."""
        return f"{self.scaled(value):.{self.places}f}"

    @property
    def places(self) -> int:
        """Digits behind the point."""
        return 1 if self.digits is None else self.digits

    def scaled(self, value: float) -> float:
        """A value in the unit of the column."""
        return value * (100 if self.unit == "%" else self.scale)


def _share(key: str) -> Callable[[Cell], float | None]:
    def read(cell: Cell) -> float | None:
        found = cell["summary"]["erased"][key]
        return None if found is None else float(found["value"])

    return read


def _asked(key: str) -> Callable[[Cell], int]:
    return lambda cell: int(cell["summary"]["erased"][key]["n"])


def harmonic(cell: Cell) -> float | None:
    """Harmonic mean of those of UA, IRA and CRA that were measured; 0 where one is 0."""
    values = [v for key in ("ua", "ira", "cra") if (v := _share(key)(cell)) is not None]
    if not values:
        return None
    return 0.0 if min(values) == 0 else len(values) / sum(1 / v for v in values)


def _fid(cell: Cell) -> float | None:
    found = next((f for f in cell["fidelity"] if f["name"].startswith("FID")), None)
    return None if found is None else float(found["erased"])


def _fid_floor(cell: Cell) -> float | None:
    found = next((f for f in cell["fidelity"] if f["name"].startswith("FID")), None)
    return None if found is None else float(found["base"])


def _nudity(cell: Cell) -> float | None:
    found = cell["nudity"]
    return None if found is None else float(found["erased"]["value"])


def _flagged(cell: Cell) -> int:
    return int(cell["nudity"]["erased"]["n"])


def _clip(cell: Cell) -> float | None:
    return None if cell["clip_score"] is None else float(cell["clip_score"]["erased"]["value"])


def _lpips(cell: Cell) -> float | None:
    """How far everyday captions moved."""
    groups = cell["over_erasure"]["groups"]
    found = next((g for g in groups if g["name"] == "general"), None)
    return None if found is None else found["lpips"]["value"]


def _whole(of: str, images: str) -> Callable[[Cell], float | None]:
    """A cost with that of the images to train on; None where one of them is not known."""

    def read(cell: Cell) -> float | None:
        own, made = cell.get(of), cell.get(images)
        return None if own is None or made is None else float(own) + float(made)

    return read


def _cost(key: str, title: str, of: Callable[[Cell], float | None]) -> Column:
    return Column(key, title, better="down", digits=0, of=of)


COLUMNS = (
    Column("ua", "UA", "%", "up", of=_share("ua"), n=_asked("ua")),
    Column("ira", "IRA", "%", "up", of=_share("ira"), n=_asked("ira")),
    Column("cra", "CRA", "%", "up", of=_share("cra"), n=_asked("cra")),
    Column("harmonic", "harmonic", "%", "up", of=harmonic),
    Column("nudity", "nudity", "%", "down", of=_nudity, n=_flagged),
    Column("fid", "FID", "", "down", digits=2, of=_fid),
    Column("lpips", "LPIPS, everyday", "", "down", digits=3, of=_lpips),
    Column("clip", "CLIP score", "", "up", digits=1, of=_clip),
)
"""Figures of the images that every cell has a place for; see ``columns``."""
MAKING = (
    _cost("seconds", "seconds", lambda c: c["training_seconds"]),
    _cost("all_seconds", "seconds with images", _whole("training_seconds", "image_seconds")),
    _cost("forwards", "forwards", lambda c: c.get("forwards")),
    _cost("all_forwards", "forwards with images", _whole("forwards", "image_forwards")),
    _cost("memory", "peak MiB", lambda c: c["training_memory_mb"]),
    Column("moved", "weights moved", "%", of=lambda c: c["moved"] / c["weights"]),
    Column("bytes", "MB to store", "", "down", digits=1, of=lambda c: c["bytes"], scale=1e-6),
)
"""Figures of the model rather than of its images."""
COSTS = ("seconds", "all_seconds", "forwards", "all_forwards", "memory")
"""Figures of the making, which a model that others made has none of."""
TOLD = (
    "ra",
    "became_anchor",
    "kid",
    "clip_score",
    "nudity_share",
    "nudity_detections",
    "nudity_change",
)
"""Figures of the cells' list that have a column under another name, or none."""
UNPAIRED = ("clip", *(c.key for c in MAKING))
"""Figures that recipes are not compared on, cell by cell."""


def columns_of(cells: Sequence[Cell]) -> list[Column]:
    """Every column of the table: those of all comparisons, and what else the cells' metrics
    measured."""
    found = {c.key: c for c in COLUMNS}
    told = {*TOLD, *found}
    for cell in cells:
        for row in cell.get("figures", ()):
            if row["key"] not in told and not row["group"]:
                found[row["key"]] = _further(row)
                told.add(row["key"])
    return [*found.values(), *MAKING]


def _further(row: Mapping[str, Any]) -> Column:
    """The column of a figure in the cells' list ``figures``."""
    key = row["key"]

    def read(cell: Cell) -> Mapping[str, Any] | None:
        own = (f for f in cell.get("figures", ()) if (f["key"], f["side"]) == (key, "erased"))
        return next((f for f in own if not f["group"] and f["value"] is not None), None)

    def value(cell: Cell) -> float | None:
        return found["value"] if (found := read(cell)) else None

    def n(cell: Cell) -> int:
        return found["n"] if (found := read(cell)) else 0

    digits = 3 if row["digits"] is None and not row["unit"] else row["digits"]
    shared = {**vars(column_of(row)), "digits": digits}
    return Column(**shared, of=value, n=n if row["unit"] == "%" else None)


def cell_facts(run: Path) -> dict[str, Any]:
    """What the comparison needs of a finished run: small enough to be kept for good.

    Seconds and memory are those of mask and training; what making the images to train on took is
    counted apart, since runs share them.
    """
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    made = report["provenance"]
    seconds, memory = made["seconds"], made["peak_memory_mb"]
    # Of a model that others erased, what it took is not known.
    trained = made["recipe"]["method"] != "included"
    return {
        "schema": SCHEMA,
        **report["run"],
        "kind": report["concept"]["kind"],
        "settings": made["recipe"],
        "base": made["model"].get("fingerprint"),
        "images": report["images"],
        "summary": report["summary"],
        "per_class": report["per_class"],
        "became": report["became"],
        "fidelity": report["fidelity"],
        "clip_score": report["clip_score"],
        "nudity": _shares(report["nudity"]),
        "over_erasure": report["over_erasure"],
        "figures": report["figures"],
        "training_seconds": round(sum(seconds.get(s, 0.0) for s in ("mask", "train")), 1)
        if trained
        else None,
        "training_memory_mb": max(memory.get(s, 0) for s in ("mask", "train")) if trained else None,
        "seconds": seconds,
        "device": made["device"],
        "versions": made["versions"],
    }


def _shares(nudity: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Both sides' shares of images with a counted body part, and what was counted."""
    if nudity is None or nudity["compared"]["base"]["share"] is None:
        return None
    sides = {side: nudity["compared"][side]["share"] for side in ("base", "erased")}
    return {**sides, "change": nudity["compared"]["change"], "facts": nudity["facts"]}


def columns(result: Mapping[str, Any]) -> list[Column]:
    """Those of the table, under the names of the networks that measured; nudity where asked."""
    cells = result["cells"]
    names = {
        "fid": {f["name"] for c in cells for f in c["fidelity"] if "FID" in f["name"]},
        "lpips": {f"{c['over_erasure']['lpips']}, everyday" for c in cells if _lpips(c)},
    }
    found = []
    for column in columns_of(cells):
        if column.key == "nudity" and all(c["nudity"] is None for c in cells):
            continue
        titles = names.get(column.key, set())
        found.append(replace(column, title=min(titles)) if len(titles) == 1 else column)
    return found


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


def row(recipe: str, cells: Sequence[Cell]) -> dict[str, Any]:
    """A recipe's figures over its cells, each with an interval over the concepts."""
    figures = {c.key: _mean(cells, c) for c in columns_of(cells)}
    return {
        "recipe": recipe,
        "method": cells[0]["method"],
        "concepts": len({c["concept"] for c in cells}),
        "seeds": sorted({c["seed"] for c in cells}),
        "cells": len(cells),
        "settings": cells[0]["settings"],
        "figures": {k: None if m is None else asdict(m) for k, m in figures.items()},
        "fid_floor": _plain([_fid_floor(c) for c in cells]),
    }


def base_row(cells: Sequence[Cell]) -> dict[str, Any]:
    """The base model's own figures on the same prompts and seeds, one cell a concept."""
    once = {c["concept"]: c for c in cells}
    return row("base model", [_as_base(c) for c in once.values()])


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
    }


def _mean(cells: Sequence[Cell], column: Column) -> Mean | None:
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
    columns = {c.key: c for c in columns_of(cells)}
    for key in (key for key in columns if key not in UNPAIRED):
        groups: dict[str, list[float]] = {}
        for place in common:
            a, b = (columns[key].of(by[name][place]) for name in (first, second))
            if a is not None and b is not None:
                groups.setdefault(place[0], []).append(a - b)
        found[key] = asdict(bootstrap(list(groups.values()))) if groups else None
    return found


def ranking(cells: Sequence[Cell], names: Sequence[str]) -> dict[str, Any]:
    """Harmonic means over the cells that all recipes have, so that none is spared a hard one."""
    own = [by_place(cells, name) for name in names]
    common = set.intersection(*(set(places) for places in own)) if own else set()
    found = {}
    by = {c.key: c for c in COLUMNS}
    for name, places in zip(names, own, strict=True):
        mean = _mean([places[place] for place in sorted(common)], by["harmonic"])
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
    rows = [
        row(n, [c for c in cells if c["recipe"] == n]) | {"complete": places[n] == every}
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
        "cells": list(cells),
    }
