"""Fidelity: how far the retained images have moved, as FID and KID over a feature network.

Both are distances to a second set that the base model made from the same prompts with other
seeds; the first base set's own distance to it is the floor. A distance is named after its
network: ``FID[mini]`` is never comparable with an Inception FID.

    FID   |μ-μ'|² + Tr(Σ + Σ' - 2(ΣΣ')^½)                        (Heusel et al., arXiv 1706.08500)
    KID   unbiased squared MMD, kernel (xᵀy/D + 1)³, mean of subsets  (Bińkowski et al., 1801.01401)
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from erase.eval.instruments.features import STANDARD, Extractor, Features, mini_extractor
from erase.eval.instruments.setting import Setting
from erase.eval.pictures import Picture
from erase.eval.store import measured, pack, unpack
from erase.runtime.words import counted

SUBSETS, SUBSET_SIZE, SUBSET_SEED = 100, 50, 0
"""KID's subsets: how many, how large at most, and the seed they are drawn with."""


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
            "value is mostly bias; compare it with the floor alone."
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

    def measure(self, images: Sequence[Picture]) -> list[Features]:
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

    def score(
        self, rows: Sequence[Features], against: Sequence[Features] | None = None
    ) -> Fidelity:
        """FID and KID; ``against`` is the reference set."""
        if self.extractor is None:
            return Fidelity(reason="not measured: no feature network for this model's images")
        if not against:
            return Fidelity(reason="not measured: no second base set")
        return score(self.extractor.name, rows, against)


def build(setting: Setting) -> FidelityMetric:
    """Takes the setting's extractor, or the bundled one for the bundled model's images.

    Raises:
        UserError: a network that can't be opened.
    """
    extractor, spec = setting.extractor, setting.instruments.features
    if extractor is None and spec is not None:
        from erase.eval.instruments.features import load_extractor

        extractor = load_extractor(spec, setting.device, fetch=setting.fetch)
    elif extractor is None and "mini" in (setting.model, setting.concept.family):
        extractor = mini_extractor(setting.device)
    return FidelityMetric(extractor, setting.store)
