"""Images on disk: made from prompts and seeds, or read from a user's folder."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from erase.images.files import MANIFEST, PLAN, SECONDS, missing, read_manifest
from erase.images.request import Request
from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.files import atomic, digest, sha256, write_json, write_text
from erase.runtime.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from erase.images.request import Sampler, Shot

MADE = re.compile(r"\d{5,}_\d+\.png")
"""Names of the images that are made, ``CASE_K.png``."""


def batches(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    """Consecutive requests of one guidance scale and size, at most ``size`` at a time."""
    batch: list[Request] = []
    for request in requests:
        kinds = {(r.guidance, r.size) for r in (request, *batch[:1])}
        if batch and (len(batch) == size or len(kinds) > 1):
            yield batch
            batch = []
        batch.append(request)
    if batch:
        yield batch


class Samples(Protocol):
    """A model that makes images."""

    def sample(self, shots: Sequence[Shot], sampler: Sampler) -> NDArray[np.uint8]:
        """uint8 RGB (B, H, W, 3), one for each of ``shots``."""


@dataclass(frozen=True)
class Shared:
    """A folder in which runs find each other's images of the same model.

    Whole batches are shared, so that a run that takes them ends with the bytes of one that makes
    them.

    Attributes:
        folder: made when needed.
        model: what else the images depend on: fingerprint of the model, device, versions.
    """

    folder: Path
    model: str

    def place(self, group: Sequence[Request], sampler: Sampler) -> Path:
        """Where the images of a batch lie."""
        shots = [[r.prompt, r.seed, r.guidance, r.size] for r in group]
        return self.folder / digest([self.model, asdict(sampler), shots])

    def take(self, group: Sequence[Request], sampler: Sampler, folder: Path) -> bool:
        """Puts a batch's images into ``folder``, or says that they are not here."""
        place = self.place(group, sampler)
        if not _is_whole(place, len(group)):
            return False
        for i, request in enumerate(group):
            _link(place / f"{i}.png", folder / request.file)
        return True

    def seconds(self, requests: Sequence[Request], batch: int, sampler: Sampler) -> float | None:
        """What making the images took, whichever run made them; None where that is not known."""
        files = [self.place(g, sampler) / SECONDS for g in batches(requests, batch)]
        if not all(file.exists() for file in files):
            return None
        return sum(float(file.read_text()) for file in files)

    def give(
        self, group: Sequence[Request], sampler: Sampler, folder: Path, seconds: float
    ) -> None:
        """Keeps a batch's images for others; the batch is there whole or not at all."""
        place = self.place(group, sampler)
        part = place.with_name(f".{place.name}.{os.getpid()}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for i, request in enumerate(group):
            _link(folder / request.file, part / f"{i}.png")
        (part / SECONDS).write_text(f"{seconds:.3f}\n")
        if not _is_whole(place, len(group)):
            shutil.rmtree(place, ignore_errors=True)  # somebody took images away
        try:
            part.rename(place)
        except OSError:  # another run was faster
            shutil.rmtree(part)


def _is_whole(place: Path, count: int) -> bool:
    """Whether a shared batch has all of its images."""
    return all((place / f"{i}.png").is_file() for i in range(count))


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the disk knows no such thing."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with atomic(target) as part:
            shutil.copyfile(source, part)


def generate(  # noqa: PLR0913 - what to make, where, how, and what may be taken over
    maker: Samples,
    requests: Sequence[Request],
    folder: Path,
    sampler: Sampler,
    batch: int,
    title: str = "images",
    shared: Shared | None = None,
    model: str = "",
    only: Set[str] | None = None,
    replace: bool = False,
) -> list[dict[str, object]]:
    """Makes the images of ``requests`` in ``folder`` with a manifest; goes on where it stopped.

    Work is planned in batches and redone in whole batches, so that an interrupted run ends with
    the bytes of an undisturbed one; several processes share the batches out.

    Args:
        maker: what makes them.
        requests: with file names of their own.
        folder: new, or one that an equal call began.
        sampler: scheduler, steps, guidance, size.
        batch: images at a time, >= 1.
        title: of the progress bar.
        shared: where batches are looked for and left.
        model: fingerprint, where the folder may meet another model.
        only: files that are wanted now, with the rest of their batches; a later call makes the
            others and the manifest.
        replace: images of other requests that the folder holds.

    Returns:
        The manifest's rows; none yet with ``only``.

    Raises:
        UserError: the folder holds images of other requests, unless they are replaced.
    """
    from PIL import Image

    from erase.images.request import Shot

    rows = [asdict(r) for r in requests]
    asked: dict[str, object] = {"requests": rows, "sampler": asdict(sampler), "batch": batch}
    plan = digest({**asked, "model": model} if model else asked)
    manifest, marker = folder / MANIFEST, folder / PLAN
    if processes.first(lambda: marker.exists() and _plan(marker) != plan):
        if not replace:
            raise UserError(f"{folder} holds images of another run: choose another folder.")
        if processes.is_main():
            _remove_made(folder)
        processes.wait()
    if processes.first(lambda: manifest.exists() and not missing(folder)):
        return read_manifest(folder)
    if processes.is_main() and manifest.exists():
        _remove_altered(folder)
    processes.wait()
    if processes.is_main():
        write_json(marker, {"plan": plan, "images": len(requests)})
    asked_for = [
        group
        for group in batches(requests, batch)
        if only is None or not only.isdisjoint(r.file for r in group)
    ]
    groups = processes.deal(asked_for)
    bar = progress(title, sum(map(len, groups)), "image")
    for group in groups:
        there = all((folder / r.file).exists() for r in group)
        if not there and not (shared and shared.take(group, sampler, folder)):
            began = time.perf_counter()
            shots = [Shot(r.prompt, r.seed, r.guidance, r.size) for r in group]
            for request, pixels in zip(group, maker.sample(shots, sampler), strict=True):
                with atomic(folder / request.file) as part:
                    Image.fromarray(pixels).save(part, format="PNG")
            if shared:
                shared.give(group, sampler, folder, time.perf_counter() - began)
        bar.update(len(group))
    bar.close()
    processes.wait()
    if only is not None:
        return []
    if processes.is_main():
        written = [
            {"file": r.file, **row, "sha256": sha256(folder / r.file)}
            for r, row in zip(requests, rows, strict=True)
        ]
        write_text(manifest, "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in written))
    processes.wait()
    return read_manifest(folder)


def _remove_altered(folder: Path) -> None:
    """Removes images that are not those of the folder's manifest, so that they are made again."""
    with suppress(UserError):  # a damaged manifest is written anew
        for row in read_manifest(folder):
            file = folder / str(row["file"])
            if file.is_file() and row.get("sha256") not in (None, sha256(file)):
                file.unlink()


def _remove_made(folder: Path) -> None:
    """Removes the images that a folder was made for, with plan and manifest, and nothing else."""
    listed: set[str] = set()
    with suppress(UserError):  # begun, not finished, or damaged
        listed = {str(row["file"]) for row in read_manifest(folder)}
    for file in list(folder.iterdir()):
        ours = file.name in {MANIFEST, PLAN, *listed} or MADE.fullmatch(file.name)
        if ours and file.is_file():
            file.unlink()


def is_begun(folder: Path) -> bool:
    """Whether a folder was made by ``generate``."""
    return _plan(folder / PLAN) is not None


def _plan(marker: Path) -> object:
    """The plan that a folder was begun with; None where the file is damaged or another's."""
    with suppress(OSError, ValueError, AttributeError):
        told = json.loads(marker.read_text(encoding="utf-8"))
        return told["plan"] if told.keys() == {"plan", "images"} else None
    return None
