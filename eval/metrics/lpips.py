"""LPIPS between the base and the erased model's images of the same prompt and seed.

How much an image moved that nobody asked to change; see ``erase.eval.instruments.perceptual``. It
takes two images, so that it looks once both sides are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erase.eval.instruments.perceptual import BACKBONES, Perceptual, load_perceptual
from erase.eval.instruments.setting import Setting
from erase.eval.pairing import pair
from erase.eval.pictures import Picture
from erase.eval.stats.intervals import Average, average
from erase.eval.store import measured_pairs

NO_NETWORK = "not measured: no --lpips network"


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

    def measure(self, images: Sequence[Picture]) -> list[Picture]:
        """The images themselves."""
        return list(images)

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

    def score(self, rows: Sequence[Picture], against: Sequence[Picture] | None = None) -> Average:
        """The mean distance of each row to the same case's on the other side; see ``pairing.pair``.

        Pictures without a counterpart are left out; ``n`` says how many pairs there were.
        """
        if self.distance is None:
            return Average(reason=NO_NETWORK)
        if against is None:
            return Average(reason="not measured: no other side")
        pairs = pair(rows, against)
        if not pairs:
            return Average(reason="not measured: no image has a counterpart on the other side")
        return average(self.between(pairs))


def build(setting: Setting) -> Lpips:
    """Takes the setting's distance, or the bundled one for the bundled model's images.

    Raises:
        UserError: a network that can't be opened.
    """
    spec = setting.instruments.lpips
    if spec is None and "mini" in (setting.model, setting.concept.family):
        spec = "mini"
    if spec in BACKBONES and not setting.fetch:  # published, and not a file
        spec = None
    return Lpips(load_perceptual(spec, setting.device) if spec else None, setting.store)
