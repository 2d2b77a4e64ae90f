"""What was measured on a picture, kept by the hash of its file."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from erase.eval.pictures import Picture
from erase.runtime import processes
from erase.runtime.files import digest, write_text
from erase.runtime.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


T = TypeVar("T")


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
    from erase.images.files import read_image

    items = {p.sha256: p for p in images}

    def look(group: Sequence[Picture]) -> list[Any]:
        return compute([read_image(p.file) for p in group])

    found = _remembered(items, look, store=store, by=by, title=title, unit="image", batch=batch)
    return [found[p.sha256] for p in images]


def measured_labelled(
    images: Sequence[Picture],
    compute: Callable[[list[NDArray[np.uint8]], list[Mapping[str, str]]], list[Any]],
    *,
    store: Path | None,
    by: object,
    title: str,
    batch: int = 32,
) -> list[Any]:
    """What ``compute`` says of each image and its labels; otherwise as ``measured``."""
    from erase.images.files import read_image

    keys = [f"{p.sha256} {digest(dict(p.labels))[:16]}" for p in images]
    items = dict(zip(keys, images, strict=True))

    def look(group: Sequence[Picture]) -> list[Any]:
        return compute([read_image(p.file) for p in group], [p.labels for p in group])

    found = _remembered(items, look, store=store, by=by, title=title, unit="image", batch=batch)
    return [found[key] for key in keys]


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
    from erase.images.files import read_image

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
    """The array that ``pack`` was given."""
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
