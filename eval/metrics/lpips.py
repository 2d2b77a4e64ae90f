"""LPIPS between the base and the erased model's images of the same prompt and seed.

How much an image moved that nobody asked to change; see ``erase.eval.instruments.perceptual``. It
takes two images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase.eval.figure import Cell, CellColumn, Figure, figure
from erase.eval.instruments.perceptual import BACKBONES, Perceptual, load_perceptual
from erase.eval.instruments.setting import Setting
from erase.eval.metrics import Seen
from erase.eval.pages.table import Column
from erase.eval.pairing import pair
from erase.eval.pictures import Picture
from erase.eval.stats.intervals import Average, average
from erase.eval.store import measured_pairs
from erase.runtime.words import counted

NO_NETWORK = "not measured: no --lpips network"
NO_PAIRS = "not measured: no image has a counterpart on the other side"
COLUMNS = (
    Column(
        "lpips",
        "LPIPS",
        better="down",
        about="distance to the base model's image with the same seed",
    ),
)
AGAINST = "base"
BY_GROUP = True
NEEDS = {"against": "LPIPS needs --against, a folder of the same prompts and seeds."}
RANK = 30


def _everyday(cell: Cell) -> float | None:
    """How far everyday captions moved."""
    groups = cell["over_erasure"]["groups"]
    found = next((g for g in groups if g["name"] == "general"), None)
    return None if found is None else found["lpips"]["value"]


def _titled(cell: Cell) -> str | None:
    return f"{cell['over_erasure']['lpips']}, everyday" if _everyday(cell) else None


COMPARED = (
    CellColumn("lpips", "LPIPS, everyday", "", "down", digits=3, of=_everyday, titled=_titled),
)


@dataclass(frozen=True)
class Lpips:
    """The metric.

    Attributes:
        distance: None where none suits.
        store: see ``measured``.
    """

    distance: Perceptual | None
    store: Path | None = None

    @property
    def name(self) -> str | None:
        """``LPIPS[mini]``; None where there is no distance."""
        return f"LPIPS[{self.distance.name}]" if self.distance else None

    @property
    def facts(self) -> dict[str, Any]:
        """The network, if any."""
        if self.distance is None:
            return {}
        return {"name": self.name, **self.distance.facts}

    def trial(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """See ``metrics.Tried``."""
        if self.distance is not None:
            self.distance(images, images)

    def looks_at(self, picture: Picture) -> bool:
        """Images that nobody asked to change."""
        return picture.role == "retain"

    def measure(self, images: Sequence[Picture], against: Sequence[Picture] = ()) -> list[float]:
        """The distance of each image to the same case's on the other side; see ``pairing.pair``.

        Those without a counterpart are left out.
        """
        return self.between(pair(images, against))

    def between(self, pairs: Sequence[tuple[Picture, Picture]]) -> list[float]:
        """The distance of each pair; none where there is no network."""
        if self.distance is None:
            return []
        return measured_pairs(
            pairs,
            self.distance,
            store=self.store,
            by={"lpips": self.distance.name, **self.distance.facts},
            title=str(self.name),
        )

    def mean(self, rows: Sequence[float]) -> Average:
        """The mean distance; ``n`` says how many pairs there were."""
        if self.distance is None:
            return Average(reason=NO_NETWORK)
        return average(rows, 0.0) if rows else Average(reason=NO_PAIRS)

    def score(self, rows: Sequence[float], against: Sequence[float] = ()) -> list[Figure]:
        """The mean distance."""
        found = self.mean(rows)
        note = counted(found.n, "pair") if found.n else ""
        return [figure(COLUMNS[0], found, title=self.name or COLUMNS[0].title, note=note)]

    def sections(self, sides: Mapping[str, Seen]) -> dict[str, Any]:
        """The reason alone: what moved stands in ``over_erasure``."""
        return {"reasons": {} if self.distance else {"lpips": NO_NETWORK}}

    def folder(self, seen: Seen, against: Seen | None) -> dict[str, Any]:
        """``lpips``."""
        if against is None:
            return {"lpips": None}
        found = asdict(self.mean(seen.rows))
        if 0 < found["n"] < len(seen.images):
            found["warning"] = (
                f"{found['n']} of {len(seen.images)} images have a counterpart on the base side; "
                "the others are left out"
            )
        return {"lpips": found}


def build(setting: Setting) -> Lpips:
    """Takes the setting's distance, or the bundled one for the bundled model's images.

    Raises:
        UserError: a network that can't be opened.
    """
    spec = setting.instruments.lpips
    if spec is None and setting.drawn:
        spec = "mini"
    if spec in BACKBONES and not setting.fetch:  # published, and not a file
        spec = None
    return Lpips(load_perceptual(spec, setting.device) if spec else None, setting.store)
