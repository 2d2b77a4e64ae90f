"""Fidelity: how far the retained images have moved, as FID and KID over a feature network.

Both are distances to a second set that the base model made from the same prompts with other
seeds; the first base set's own distance to it is the floor. A distance is named after its
network: ``FID[mini]`` is never comparable with an Inception FID.

    FID   |μ-μ'|² + Tr(Σ + Σ' - 2(ΣΣ')^½)                        (Heusel et al., arXiv 1706.08500)
    KID   unbiased squared MMD, kernel (xᵀy/D + 1)³, mean of subsets  (Bińkowski et al., 1801.01401)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from erase.eval.figure import Cell, CellColumn, Figure, figure
from erase.eval.instruments.features import STANDARD, Extractor, Features, mini_extractor
from erase.eval.instruments.setting import Setting
from erase.eval.metrics import Seen
from erase.eval.pages.table import Column
from erase.eval.pictures import Picture
from erase.eval.store import measured, pack, unpack
from erase.runtime.words import counted

SUBSETS, SUBSET_SIZE, SUBSET_SEED = 100, 50, 0
"""KID's subsets: how many, how large at most, and the seed they are drawn with."""

ROUNDING = 1e-9
"""Spread below which a figure's subsets all hold the same images."""
ABOUT = "distance of the retained images to a second base set"
COLUMNS = (
    Column("fid", "FID", better="down", about=ABOUT),
    Column("kid", "KID", better="down", about=f"{ABOUT}; may fall below 0"),
)
AGAINST = "reference"
NEEDS = {
    "reference": "FID and KID need --reference, a folder of base images with other seeds.",
}
RANK = 20


def _fid(cell: Cell) -> Mapping[str, Any] | None:
    return next((f for f in cell["fidelity"] if f["name"].startswith("FID")), None)


COMPARED = (
    CellColumn(
        "fid",
        "FID",
        "",
        "down",
        digits=2,
        of=lambda cell: float(found["erased"]) if (found := _fid(cell)) else None,
        titled=lambda cell: found["name"] if (found := _fid(cell)) else None,
    ),
)


@dataclass(frozen=True)
class Moved:
    """A distance of the retained images to the second base set, before and after.

    Attributes:
        name: with its feature network, e.g. ``FID[mini]``.
        base: of the base model's own images: the floor.
        erased: of the erased model's.
        n, reference_n: images of a side and of the second base set.
        dimensions: number of features.
        base_spread, erased_spread: KID's standard deviation over its subsets; None for FID.
    """

    name: str
    base: float
    erased: float
    n: int
    reference_n: int
    dimensions: int
    base_spread: float | None
    erased_spread: float | None


@dataclass(frozen=True)
class Distance:
    """A distance between two sets of images.

    Attributes:
        name: with its extractor, e.g. ``FID[mini]``.
        value: >= 0 but for KID, which is unbiased and may fall below.
        n, reference_n: images of either set.
        dimensions: D.
        spread: KID's standard deviation over the subsets; None for FID.
        subset_size: KID's; None for FID.
    """

    name: str
    value: float
    n: int
    reference_n: int
    dimensions: int
    spread: float | None = None
    subset_size: int | None = None


@dataclass(frozen=True)
class Fidelity:
    """The figures.

    Attributes:
        fid, kid: None where not measured.
        warning: what to mind when reading them.
        reason: why they were not measured.
    """

    fid: Distance | None = None
    kid: Distance | None = None
    warning: str | None = None
    reason: str | None = None


class _Given(nn.Module):
    """Hands features through where torchmetrics expects a network."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.num_features = dimensions

    def forward(self, x: Tensor) -> Tensor:
        return x


def title(metric: str, extractor: str) -> str:
    """``FID[mini]``; ``FID`` for the network that the name belongs to."""
    return metric if extractor == STANDARD else f"{metric}[{extractor}]"


def score(name: str, features: Sequence[Features], reference: Sequence[Features]) -> Fidelity:
    """FID and KID of ``features`` to ``reference``, by torchmetrics.

    Args:
        name: the extractor's.
        features, reference: one (D,) array per image.
    """
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    n, m = len(features), len(reference)
    if min(n, m) < 2:
        images = counted(n, "image")
        return Fidelity(reason=f"not measured: {images} against {m}, at least 2 are needed")
    sides = [torch.from_numpy(np.stack(s)).double() for s in (reference, features)]
    dimensions = sides[0].shape[1]
    size = min(SUBSET_SIZE, n, m)
    # Every process holds all features: torchmetrics would count them once for each.
    fid = FrechetInceptionDistance(_Given(dimensions), sync_on_compute=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns that it keeps the features, which it is given
        kid = KernelInceptionDistance(
            _Given(dimensions), subsets=SUBSETS, subset_size=size, sync_on_compute=False
        )
    for side, real in zip(sides, (True, False), strict=True):
        fid.update(side, real)
        kid.update(side, real)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SUBSET_SEED)
        mean, spread = kid.compute()
    warning = None
    if min(n, m) <= dimensions:
        warning = (
            f"{title('FID', name)} has {dimensions} dimensions but only {min(n, m)} images: its "
            "value is mostly bias; compare it only with the floor."
        )
    return Fidelity(
        Distance(title("FID", name), float(fid.compute()), n, m, dimensions),
        Distance(title("KID", name), float(mean), n, m, dimensions, float(spread), size),
        warning,
    )


@dataclass(frozen=True)
class FidelityMetric:
    """The metric.

    Attributes:
        extractor: None where no feature network suits the images.
        store: see ``measured``.
    """

    extractor: Extractor | None
    store: Path | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The feature network, if any, and how KID's subsets are drawn."""
        e = self.extractor
        network = e and {"name": e.name, "dimensions": e.dimensions, **e.facts}
        subsets = {"subsets": SUBSETS, "subset_size": SUBSET_SIZE, "seed": SUBSET_SEED}
        return {"extractor": network, "kid": subsets}

    def trial(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """See ``metrics.Tried``."""
        if self.extractor is not None:
            self.extractor(images)

    def looks_at(self, picture: Picture) -> bool:
        """Retained images: of an erased concept's, fidelity is no question."""
        return picture.role == "retain"

    def measure(self, images: Sequence[Picture], against: Sequence[Picture] = ()) -> list[Features]:
        """Every image's features."""
        extractor = self.extractor
        if extractor is None:
            return []
        rows = measured(
            images,
            lambda batch: [pack(f) for f in extractor(batch)],
            store=self.store,
            by={"features": extractor.name, "facts": dict(extractor.facts)},
            title=f"features[{extractor.name}]",
        )
        return [unpack(row) for row in rows]

    def distances(self, rows: Sequence[Features], against: Sequence[Features] = ()) -> Fidelity:
        """FID and KID to the reference set."""
        if self.extractor is None:
            return Fidelity(reason="not measured: no feature network for this model's images")
        if not against:
            return Fidelity(reason="not measured: no second base set")
        return score(self.extractor.name, rows, against)

    def score(self, rows: Sequence[Features], against: Sequence[Features] = ()) -> list[Figure]:
        """FID and KID to the reference set."""
        return _figures(self.distances(rows, against))

    def sections(self, sides: Mapping[str, Seen]) -> dict[str, Any]:
        """``fidelity``."""
        reference = sides["base2"].rows
        base, erased = (self.distances(sides[side].rows, reference) for side in ("base", "erased"))
        moved = tuple(
            Moved(e.name, b.value, e.value, e.n, e.reference_n, e.dimensions, b.spread, e.spread)
            for b, e in ((base.fid, erased.fid), (base.kid, erased.kid))
            if b is not None and e is not None
        )
        return {
            "fidelity": moved,
            "warnings": (erased.warning,) if erased.warning else (),
            "reasons": {"fidelity": erased.reason} if erased.reason else {},
        }

    def folder(self, seen: Seen, against: Seen | None) -> dict[str, Any]:
        """``fidelity``."""
        return {"fidelity": asdict(self.distances(seen.rows, against.rows if against else ()))}


def _figures(found: Fidelity) -> list[Figure]:
    figures = []
    for column, distance in zip(COLUMNS, (found.fid, found.kid), strict=True):
        if distance is None:
            figures.append(figure(column, None, reason=found.reason))
            continue
        told = {
            "title": distance.name,
            "value": distance.value,
            "n": distance.n,
            "detail": f"{distance.dimensions} dimensions",
            "note": _spread(distance),
        }
        figures.append(figure(column, None, **told))
    return figures


def _spread(distance: Distance) -> str:
    """The standard deviation over subsets; empty for FID, which has none."""
    if distance.spread is None:
        return ""
    if distance.spread < ROUNDING * max(abs(distance.value), 1):
        return "one subset: all images"
    return f"± {distance.spread:.2g} over subsets"


def build(setting: Setting) -> FidelityMetric:
    """Takes the setting's extractor, or the bundled one for the bundled model's images.

    Raises:
        UserError: a network that can't be opened.
    """
    extractor, spec = setting.extractor, setting.instruments.features
    if extractor is None and spec is not None:
        from erase.eval.instruments.features import load_extractor

        extractor = load_extractor(spec, setting.device, fetch=setting.fetch)
    elif extractor is None and setting.drawn:
        extractor = mini_extractor(setting.device)
    return FidelityMetric(extractor, setting.store)
