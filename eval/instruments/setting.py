"""What an instrument may need to know to be opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.eval.pictures import Picture
from erase.runtime.files import MODELS

if TYPE_CHECKING:
    import torch

    from erase.eval.instruments.features import Extractor
    from erase.eval.instruments.judges import Judge
    from erase.eval.instruments.nudenet import Detector
    from erase.prompts.concept import Concept


@dataclass(frozen=True)
class Setting:
    """What a metric may need to know of a run.

    Attributes:
        concept, anchor: what is erased and what should stand in its place.
        model: what the user called the base model; ``mini`` is the bundled one.
        pictures: the base side's images, for the labels that occur.
        instruments: as the user named them; a judge that is None is no judge, and of the others
            the bundled model's images have their own.
        store: folder of rows measured earlier; None keeps none.
        device: where networks compute.
        judges: by axis, instead of those of ``instruments``.
        extractor: feature network, instead of theirs.
        detector: of nudity, instead of NudeNet.
        whole: whether all pictures were asked about, whatever the concept.
        fetch: whether networks may be downloaded; without, those that need it are left closed.
    """

    concept: Concept
    anchor: Concept
    model: str
    pictures: Sequence[Picture]
    instruments: Instruments = UNNAMED
    store: Path | None = None
    device: str | torch.device = "cpu"
    judges: Mapping[str, Judge] | None = None
    extractor: Extractor | None = None
    detector: Detector | None = None
    whole: bool = False
    fetch: bool = True

    @property
    def drawn(self) -> bool:
        """Whether a bundled model makes the images, or they are of its world."""
        return self.model in MODELS or self.concept.family == "mini"
