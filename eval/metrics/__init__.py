"""Metrics, one module each, found by name.

A module ``erase.eval.metrics.NAME`` offers ``build(setting) -> Metric``. What a metric can't
measure in that setting it says in its figures, as a reason.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from erase import processes
from erase.errors import UserError, nearest
from erase.files import digest, sha256, write_text
from erase.listing import list_metrics
from erase.progress import progress
from erase.specs import UNNAMED, Instruments

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from erase.concepts import Concept
    from erase.eval.detectors import Detector
    from erase.eval.judges import Judge
    from erase.eval.metrics.fidelity import Extractor

T = TypeVar("T")
Row = TypeVar("Row")
FiguresT = TypeVar("FiguresT", covariant=True)


@dataclass(frozen=True)
class Picture:
    """An image on disk and what it should show; see ``manifest.jsonl``.

    Attributes:
        file: where it lies.
        sha256: of the file's bytes.
        set, case_number, k: prompt set, its row, number of the image within the row.
        prompt, seed: what it was made from.
        role: ``forget``, ``retain`` or one of ``over_erasure.GROUPS``.
        labels: what it should show, by axis.
    """

    file: Path
    sha256: str
    set: str
    case_number: int
    k: int
    prompt: str
    seed: int
    role: str
    labels: Mapping[str, str]

    @property
    def key(self) -> tuple[str, int, int]:
        """The same on every side of a comparison."""
        return self.set, self.case_number, self.k


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
    fetch: bool = True


class Metric(Protocol[Row, FiguresT]):
    """Looks at every image once, then scores what it saw as often as wanted.

    Attributes:
        facts: what the figures depend on, as JSON; printed in the report's provenance.
    """

    @property
    def facts(self) -> dict[str, Any]: ...

    def measure(self, images: Sequence[Picture]) -> list[Row]:
        """One row per image, in order; taken from the store where it was measured before."""
        ...

    def score(self, rows: Sequence[Row], against: Sequence[Row] | None = None) -> FiguresT:
        """Figures of the rows, pure. ``against`` holds the rows of the side compared with."""
        ...


def build_metric(name: str, setting: Setting) -> Metric[Any, Any]:
    """Opens a metric by the name of its module.

    Raises:
        UserError: no such metric, or one that can't be opened in this setting.
    """
    if name not in list_metrics():
        raise UserError(
            f"There is no metric '{name}': choose from {', '.join(list_metrics())}."
            f"{nearest(name, list_metrics())}"
        )
    metric: Metric[Any, Any] = import_module(f"{__name__}.{name}").build(setting)
    return metric


def read_pictures(folder: Path) -> list[Picture]:
    """The images that a folder's manifest lists.

    Raises:
        UserError: no manifest, or an image that is missing or is not the one listed.
    """
    from erase.images import MANIFEST, read_manifest

    pictures = []
    for row in read_manifest(folder):
        facts: dict[str, Any] = dict(row)
        file = folder / facts["file"]
        if not file.is_file():
            raise UserError(f"{file} is missing, though {folder / MANIFEST} lists it.")
        if sha256(file) != facts["sha256"]:
            raise UserError(
                f"{file} is not the image that {folder / MANIFEST} lists: make the images again."
            )
        names = ("sha256", "set", "case_number", "k", "prompt", "seed", "role", "labels")
        pictures.append(Picture(file, **{name: facts[name] for name in names}))
    return pictures


CHUNK = 256
"""Images of a process between two writes to the store."""


def measured(
    images: Sequence[Picture],
    compute: Callable[[list[NDArray[np.uint8]]], list[Any]],
    *,
    store: Path | None,
    by: object,
    title: str,
    batch: int = 32,
) -> list[Any]:
    """What ``compute`` says of each image, a batch in memory at a time, kept in the store.

    Args:
        images: in the order of the result; an image that occurs twice is measured once.
        compute: RGB arrays (H, W, 3) to one JSON value each.
        store: folder; one sub-folder per ``by``, files of at most ``CHUNK`` rows.
        by: everything the values depend on besides the image, as JSON.
        title: of the progress bar.
        batch: images at a time, >= 1.

    Raises:
        UserError: an unreadable image.
    """
    from erase.images import read_image

    items = {p.sha256: p for p in images}

    def look(group: Sequence[Picture]) -> list[Any]:
        return compute([read_image(p.file) for p in group])

    found = _remembered(items, look, store=store, by=by, title=title, unit="image", batch=batch)
    return [found[p.sha256] for p in images]


def measured_pairs(
    pairs: Sequence[tuple[Picture, Picture]],
    compute: Callable[[list[NDArray[np.uint8]], list[NDArray[np.uint8]]], list[Any]],
    *,
    store: Path | None,
    by: object,
    title: str,
    batch: int = 32,
) -> list[Any]:
    """What ``compute`` says of each pair of images; otherwise as ``measured``."""
    from erase.images import read_image

    items = {f"{a.sha256} {b.sha256}": (a, b) for a, b in pairs}

    def look(group: Sequence[tuple[Picture, Picture]]) -> list[Any]:
        return compute(
            [read_image(a.file) for a, _ in group], [read_image(b.file) for _, b in group]
        )

    found = _remembered(items, look, store=store, by=by, title=title, unit="pair", batch=batch)
    return [found[f"{a.sha256} {b.sha256}"] for a, b in pairs]


def _remembered(
    items: Mapping[str, T],
    look: Callable[[Sequence[T]], list[Any]],
    *,
    store: Path | None,
    by: object,
    title: str,
    unit: str,
    batch: int,
) -> dict[str, Any]:
    """By key, what ``look`` says of every item; only of those that the store does not know."""
    folder = store / digest(by)[:16] if store is not None else None
    # One view for all processes: other runs may write into the store meanwhile.
    known = processes.first(lambda: _read_store(folder))
    todo = [key for key in items if key not in known]
    groups = processes.deal(list(_slices(todo, batch)))
    bar = progress(title, sum(map(len, groups)), unit)
    own: dict[str, Any] = {}
    for chunk in _slices(groups, -(-CHUNK // batch)):
        fresh: dict[str, Any] = {}
        for group in chunk:
            values = look([items[key] for key in group])
            fresh |= dict(zip(group, values, strict=True))
            bar.update(len(group))
        if folder is not None:
            lines = "".join(json.dumps(pair) + "\n" for pair in fresh.items())
            write_text(folder / f"{digest(list(fresh))[:16]}.jsonl", lines)
        own |= fresh
    bar.close()
    return known | processes.gather(own)


def pack(vector: NDArray[np.float32]) -> str:
    """A vector as text for the store, exact and shorter than decimals."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def unpack(text: str) -> NDArray[np.float32]:
    """What ``pack`` was given."""
    import numpy as np

    return np.frombuffer(base64.b64decode(text), "<f4")


def _read_store(folder: Path | None) -> dict[str, Any]:
    known: dict[str, Any] = {}
    if folder is not None and folder.is_dir():
        for file in sorted(folder.glob("*.jsonl")):
            known |= dict(map(json.loads, file.read_text(encoding="utf-8").splitlines()))
    return known


def _slices(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))
