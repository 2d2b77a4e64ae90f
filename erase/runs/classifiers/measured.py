"""What shared models answered and were measured at, so that a matrix asks each of them once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from erase.eval.classifiers.evidence import Case, Side
from erase.eval.classifiers.metrics import METRICS, measure
from erase.eval.figure import Figure
from erase.formats.tensors import read_tensors, save_tensors
from erase.runtime.files import atomic, digest, write_json

if TYPE_CHECKING:
    from torch import Tensor

CODE = (METRICS, METRICS.parent, METRICS.parent.parent / "stats")
"""What figures are computed by."""


@dataclass(frozen=True, eq=False)
class Shelf:
    """Keeps answers and figures in a folder, each by all that it depends on.

    Attributes:
        folder: of the shared models; None keeps nothing.
        asked: digest of what is asked of every model.
        models: by side, digest of what its weights depend on; a side that is not named here is
            measured each time.
    """

    folder: Path | None
    asked: str
    models: Mapping[str, str]

    def answers(self, side: str, make: Callable[[], dict[str, Tensor]]) -> Mapping[str, Tensor]:
        """Logits float32 (N, K) by part of the samples.

        Args:
            side: whose they are.
            make: asks the model.
        """
        file = self._file("answers", [side], [])
        if file is None:
            return make()
        file = file.with_suffix(".safetensors")
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic(file) as part:
                save_tensors(part, make(), {"format": "pt"})
        return read_tensors(file)

    def figures(
        self, case: Case, side: Side, references: Sequence[Side], keys: Sequence[str]
    ) -> list[Figure]:
        """As ``metrics.measure``, which is asked where nothing is kept."""
        # Figures of another version of a metric are none of this one's.
        files = sorted(file for place in CODE for file in place.glob("*.py"))
        metrics = [file.read_text(encoding="utf-8") for file in files]
        costs = [[one.samples, one.seconds] for one in (side, *references)]
        near = {name: places.tolist() for name, places in case.near.items()}
        more = [side.name, list(keys), metrics, costs, near]
        file = self._file("figures", [side.name, *(r.name for r in references)], more)
        if file is None:
            return measure(case, side, references, keys)
        if not file.is_file():
            found = measure(case, side, references, keys)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, [asdict(row) for row in found])
        return [Figure(**row) for row in json.loads(file.read_text(encoding="utf-8"))]

    def _file(self, kind: str, sides: Sequence[str], more: object) -> Path | None:
        if self.folder is None or not set(sides) <= set(self.models):
            return None
        key = digest([kind, self.asked, [self.models[name] for name in sides], more])
        return self.folder / "measured" / f"{key[:16]}.json"
