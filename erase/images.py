"""Images on disk: made from prompts and seeds, or read from a user's folder."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from erase import processes
from erase.errors import UserError, reason
from erase.files import atomic, digest, is_hidden, sha256, write_json, write_text
from erase.progress import progress
from erase.tables import json_lines

if TYPE_CHECKING:
    from PIL import Image

    from erase.diffusion import Diffusion
    from erase.sampling import Sampler

MANIFEST = "manifest.jsonl"
PLAN = "plan.json"
"""Beside it: what the images of a folder were asked for."""
SECONDS = "seconds"
"""Of a shared batch: what making it took."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")
"""Contents that are opened; Pillow knows others, some of which start programs."""


@dataclass(frozen=True)
class Request:
    """One image to make.

    Attributes:
        set: name of the prompt set.
        case_number: row of the set.
        k: number of the image within its row.
        prompt: the text c.
        seed: of the starting noise.
        role: ``forget`` or ``retain``.
        labels: what the image should show, by axis.
        guidance: guidance scale of this image; None takes the sampler's.
        size: height and width of this image in px, see ``diffusion.Shot``.
    """

    set: str
    case_number: int
    k: int
    prompt: str
    seed: int
    role: str
    labels: Mapping[str, str] = field(default_factory=dict)
    guidance: float | None = None
    size: tuple[int | None, int | None] | None = None

    @property
    def file(self) -> str:
        """File name, unique within a set."""
        return f"{self.case_number:05d}_{self.k}.png"


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
        if not place.is_dir():
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
        try:
            part.rename(place)
        except OSError:  # another run was faster
            shutil.rmtree(part)


def _link(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the disk knows no such thing."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with atomic(target) as part:
            shutil.copyfile(source, part)


def generate(
    diffusion: Diffusion,
    requests: Sequence[Request],
    folder: Path,
    sampler: Sampler,
    batch: int,
    title: str = "images",
    shared: Shared | None = None,
    model: str = "",
    only: Set[str] | None = None,
) -> list[dict[str, object]]:
    """Makes the images of ``requests`` in ``folder`` with a manifest; goes on where it stopped.

    Work is planned in batches and redone in whole batches, so that an interrupted run ends with
    the bytes of an undisturbed one; several processes share the batches out.

    Args:
        diffusion: the model.
        requests: with file names of their own.
        folder: new, or one that an equal call began.
        sampler: scheduler, steps, guidance, size.
        batch: images at a time, >= 1.
        title: of the progress bar.
        shared: where batches are looked for and left.
        model: fingerprint, where the folder may meet another model.
        only: files that are wanted now, with the rest of their batches; a later call makes the
            others and the manifest.

    Returns:
        The manifest's rows; none yet with ``only``.

    Raises:
        UserError: the folder holds images of other requests.
    """
    from PIL import Image

    from erase.sampling import Shot

    rows = [asdict(r) for r in requests]
    asked: dict[str, object] = {"requests": rows, "sampler": asdict(sampler), "batch": batch}
    plan = digest({**asked, "model": model} if model else asked)
    manifest, marker = folder / MANIFEST, folder / PLAN
    if marker.exists() and _plan(marker) != plan:
        raise UserError(f"{folder} holds images of another run: choose another folder.")
    if processes.first(lambda: manifest.exists() and not missing(folder)):
        return read_manifest(folder)
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
            for request, pixels in zip(group, diffusion.sample(shots, sampler), strict=True):
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


def _plan(marker: Path) -> object:
    """The plan that a folder was begun with; None where the file is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return json.loads(marker.read_text(encoding="utf-8"))["plan"]
    return None


def read_manifest(folder: Path) -> list[dict[str, object]]:
    """The rows of a folder's manifest.

    Raises:
        UserError: there is none, or it is damaged.
    """
    manifest = folder / MANIFEST
    if not manifest.exists():
        raise UserError(f"{folder} has no {MANIFEST}: run the stage that makes its images first.")
    found = []
    for number, row in json_lines(manifest, "The manifest"):
        if not isinstance(row, dict) or (bad := _misfit(row)):
            raise UserError(
                f"The manifest {manifest} can't be used (line {number}: "
                f"{bad if isinstance(row, dict) else 'not an object'}): make the images again."
            )
        found.append(row)
    return found


_KINDS: Mapping[str, type] = {
    "file": str,
    "sha256": str,
    "set": str,
    "prompt": str,
    "role": str,
    "case_number": int,
    "k": int,
    "labels": dict,
}


def _misfit(row: Mapping[str, object]) -> str:
    """What is wrong with a line of a manifest; empty for one as the stages write them."""
    for name, kind in _KINDS.items():
        if type(row.get(name)) is not kind:
            return f"'{name}' is missing or of the wrong type"
    labels = row["labels"]
    if isinstance(labels, dict) and not all(isinstance(text, str) for text in labels.values()):
        return "a label that is not text"
    name, seed = str(row["file"]), row.get("seed")
    # Of the user's own images there is no seed, and they stay where they are.
    if type(seed) is not int and not (seed is None and Path(name).is_absolute()):
        return "'seed' is missing or of the wrong type"
    outside = Path(name).name != name and seed is not None
    return "a file outside the folder" if outside or "\0" in name else ""


def missing(folder: Path) -> list[Path]:
    """Images that the manifests in a folder and below it list and that are not there."""
    return [
        file
        for manifest in sorted(folder.rglob(MANIFEST))
        for row in read_manifest(manifest.parent)
        if not (file := manifest.parent / str(row["file"])).exists()
    ]


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder in the order of their names; hidden ones are passed over.

    Raises:
        UserError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise UserError(f"There is no image folder {folder}: give an existing one.")
    files = sorted(
        f
        for f in folder.iterdir()
        if f.suffix.lower() in SUFFIXES and f.is_file() and not is_hidden(f)
    )
    if not files:
        kinds = ", ".join(sorted(SUFFIXES))
        raise UserError(f"The folder {folder} has no images ({kinds}): put some there.")
    return files


def read_image(file: Path, size: int | None = None) -> NDArray[np.uint8]:
    """Reads one image as RGB; grey, palette and transparent images are converted.

    Args:
        file: of one of the ``FORMATS``, whatever its suffix.
        size: side in px of the square it is cropped (centre) and resized to; None leaves it.

    Returns:
        uint8 (H, W, 3).

    Raises:
        UserError: unreadable, truncated, not an image, or with values of unknown range.
    """
    import struct

    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=FORMATS) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("I", "F"):
                raise ValueError("32-bit values of unknown range")
            if image.mode.startswith("I;16"):
                # Pillow clips 16-bit grey at 255 instead of scaling it.
                image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
            image = on_white(image)
    # Damaged metadata make Pillow raise struct.error and TypeError too.
    except (
        *(OSError, SyntaxError, ValueError, TypeError, struct.error),
        Image.DecompressionBombError,
    ) as error:
        raise UserError(
            f"{file} can't be read as an image ({reason(error)}): remove or replace it."
        ) from error
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image)


def on_white(image: Image.Image) -> Image.Image:
    """The image as RGB; transparent pixels have an arbitrary colour of their own and show white."""
    from PIL import Image

    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")
