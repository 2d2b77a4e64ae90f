"""CLIP score: how well an image fits its prompt.

    100·max(cos(image, prompt), 0)             (Hessel et al., arXiv 2104.08718, w = 100)

over an open_clip model, averaged over the images; the mean's interval comes from the spread of the
images. Figures of different models can't be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from erase.eval.figure import Cell, CellColumn, Figure, figure
from erase.eval.instruments.bundled import mini_clip
from erase.eval.instruments.clip import Clip, check_clip, load_clip
from erase.eval.instruments.judges import to_pil
from erase.eval.instruments.setting import Setting
from erase.eval.instruments.spec import needs_fetching
from erase.eval.metrics import Seen
from erase.eval.pages.table import Column
from erase.eval.pictures import Picture, is_unknown
from erase.eval.stats.intervals import Average, average
from erase.eval.store import measured, pack, unpack
from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

BATCH = 64
"""Prompts encoded at a time."""


COLUMNS = (
    Column(
        "clip_score",
        "CLIP score",
        better="up",
        about="how well the retained images fit their prompts, 0 to 100",
        digits=1,
    ),
)
RANK = 40


def _of_cell(cell: Cell) -> float | None:
    return None if cell["clip_score"] is None else float(cell["clip_score"]["erased"]["value"])


COMPARED = (CellColumn("clip", "CLIP score", "", "up", digits=1, of=_of_cell),)


@dataclass(frozen=True)
class Fit:
    """CLIP score of the retained images, before and after.

    Attributes:
        model: spec of the open_clip model.
        base, erased: ``{value, n, low, high}``, mean scores in [0, 100].
    """

    model: str
    base: Mapping[str, float | int]
    erased: Mapping[str, float | int]


@dataclass(frozen=True)
class ClipScore:
    """The metric.

    Attributes:
        spec: of the open_clip model; None where none suits.
        clip: the model.
        store: see ``measured``.
        device: where it computes.
    """

    spec: str | None
    clip: Clip | None
    store: Path | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def facts(self) -> dict[str, Any]:
        """The model, if any."""
        return {"model": self.named, **(self.clip.facts if self.clip else {})}

    @property
    def named(self) -> str | None:
        """The spec; of the bundled model without the place where it happens to be installed."""
        return self.spec.partition("@")[0] if self.spec == mini_clip() else self.spec

    def trial(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """See ``metrics.Tried``."""
        if self.clip is None:
            return
        own = [self.clip.preprocess(to_pil(image)) for image in images]
        with torch.inference_mode():
            self.clip.model.encode_image(torch.stack(own).to(self.device))

    def looks_at(self, picture: Picture) -> bool:
        """Retained images: of an erased concept's, the fit to the prompt is no question."""
        return picture.role == "retain"

    def measure(self, images: Sequence[Picture], against: Sequence[Picture] = ()) -> list[float]:
        """The score of every image that was asked for by a prompt.

        Raises:
            UserError: the prompt of an image is not known.
        """
        if any(map(is_unknown, images)):
            raise UserError("The CLIP score needs every picture's prompt: give a --set.")
        images = [p for p in images if p.prompt]
        if self.clip is None or not images:
            return []
        packed = measured(
            images,
            self._embed,
            store=self.store,
            by={"clip": self.named, **self.clip.facts},
            title=f"CLIP score[{str(self.spec).partition('@')[0]}]",
        )
        prompts = list(dict.fromkeys(p.prompt for p in images))
        texts = dict(zip(prompts, self._texts(prompts), strict=True))
        return [
            100 * float(np.maximum(unpack(row) @ texts[p.prompt], 0.0))  # NaN stays
            for row, p in zip(packed, images, strict=True)
        ]

    @torch.inference_mode()
    def _embed(self, batch: Sequence[NDArray[np.uint8]]) -> list[str]:
        assert self.clip is not None
        x = torch.stack([self.clip.preprocess(to_pil(image)) for image in batch]).to(self.device)
        return [pack(row) for row in self.clip.model.encode_image(x, normalize=True).cpu().numpy()]

    @torch.inference_mode()
    def _texts(self, prompts: Sequence[str]) -> list[NDArray[np.float32]]:
        assert self.clip is not None
        found: list[NDArray[np.float32]] = []
        for start in range(0, len(prompts), BATCH):
            ids = self.clip.tokenizer(list(prompts[start : start + BATCH])).to(self.device)
            found += list(self.clip.model.encode_text(ids, normalize=True).cpu().numpy())
        return found

    def mean(self, rows: Sequence[float]) -> Average:
        """The mean, in [0, 100]."""
        if self.clip is None:
            return Average(reason="not measured: no --clip model")
        return average(rows, 0.0, 100.0)

    def score(self, rows: Sequence[float], against: Sequence[float] = ()) -> list[Figure]:
        """The mean; there is no second set."""
        return [figure(COLUMNS[0], self.mean(rows))]

    def sections(self, sides: Mapping[str, Seen]) -> dict[str, Any]:
        """``clip_score``."""
        base, erased = (self.mean(sides[side].rows) for side in ("base", "erased"))
        reasons = {"clip_score": erased.reason} if erased.reason else {}
        if self.named is None or base.value is None or erased.value is None:
            return {"clip_score": None, "reasons": reasons}
        each = [{k: v for k, v in asdict(a).items() if k != "reason"} for a in (base, erased)]
        return {"clip_score": Fit(self.named, *each), "reasons": reasons}

    def folder(self, seen: Seen, against: Seen | None) -> dict[str, Any]:
        """``clip_score``."""
        return {"clip_score": asdict(self.mean(seen.rows))}


def build(setting: Setting) -> ClipScore:
    """Takes the setting's model, or the bundled one for the bundled model's images.

    Raises:
        UserError: a model that can't be opened.
    """
    spec = setting.instruments.clip
    if spec is None and "mini" in (setting.model, setting.concept.family):
        spec = mini_clip()
    device = torch.device(setting.device)
    if spec and not setting.fetch and needs_fetching(spec):
        check_clip(spec)
        spec = None
    return ClipScore(spec, load_clip(spec, device) if spec else None, setting.store, device)
