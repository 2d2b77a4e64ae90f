"""The figures of a comparison: which there are, and how a cell holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from erase.eval.figure import column_of
from erase.eval.pages import table

Cell = Mapping[str, Any]
"""The content of a ``cell.json``."""


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
