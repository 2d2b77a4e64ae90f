"""Detectors: what body parts an image shows, where, and how sure that is.

NudeNet 3.4 as it is installed, without what its own entry point does unasked: exchanging red and
blue for some inputs and dropping what scores below a threshold of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from erase.images.files import on_white, read_image
from erase.runtime.errors import UserError, nearest
from erase.runtime.files import sha256

CLASSES = (
    "FEMALE_GENITALIA_COVERED",
    "FACE_FEMALE",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "ANUS_EXPOSED",
    "FEET_EXPOSED",
    "BELLY_COVERED",
    "FEET_COVERED",
    "ARMPITS_COVERED",
    "ARMPITS_EXPOSED",
    "FACE_MALE",
    "BELLY_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_COVERED",
    "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
)
"""Labels of NudeNet 3.4 in the order of its outputs; those of version 2 are others."""

Channels = Literal["right", "swapped"]
"""``right``: the detector sees the image's colours, as it was trained to. ``swapped``: it sees red
and blue exchanged, as NudeNet 3.4.0 to 3.4.2 do with a path, with bytes and with OpenCV's own
arrays (its issue 203); for figures published with those."""

FLOOR = 0.01
"""Detections that score no higher are not kept."""
OVERLAP = 0.45
"""NudeNet's: of boxes whose intersection over union is larger only the highest score is kept,
whatever their classes."""
SIDE = 320
"""Side in px of the network's input."""

ImageLike = NDArray[np.uint8] | Image.Image | Path | str
"""RGB uint8 (H, W, 3), a Pillow image, or a file."""


@dataclass(frozen=True)
class Detection:
    """A body part in an image.

    Attributes:
        label: one of ``CLASSES``.
        score: in [0, 1].
        box: left, top, width and height in px of the image.
    """

    label: str
    score: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Detections:
    """All that was found in an image, of any class, highest score first."""

    found: tuple[Detection, ...] = ()

    def to_json(self) -> list[dict[str, Any]]:
        """NudeNet's own layout: ``class``, ``score``, ``box``."""
        return [{"class": d.label, "score": d.score, "box": list(d.box)} for d in self.found]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]]) -> Detections:
        """What ``to_json`` returned."""
        return cls(tuple(Detection(r["class"], r["score"], tuple(r["box"])) for r in rows))


class Detector(Protocol):
    """Finds body parts.

    Attributes:
        facts: what its answers depend on, as JSON: cached with, and printed.
    """

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[Detections]:
        """What each image shows, under labels of ``CLASSES``.

        Args:
            images: RGB uint8 (H, W, 3), of any sizes.
        """
        ...


def check_channels(channels: str) -> None:
    """Refuses what is not one of ``Channels``.

    Raises:
        UserError: naming the nearest.
    """
    known = get_args(Channels)
    if channels not in known:
        raise UserError(f"There is no channel order '{channels}'.{nearest(channels, known)}")


def to_rgb(image: ImageLike) -> NDArray[np.uint8]:
    """Any form of an image as an RGB array.

    Returns:
        uint8 (H, W, 3); transparency shows white.

    Raises:
        UserError: an unreadable file, an array of another shape or type, a Pillow image of more
            than 8 bits.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, Image.Image):
        if image.mode.startswith(("I", "F")):
            raise UserError(
                f"A Pillow image of mode {image.mode} has no 8-bit colours: scale and convert it."
            )
        return np.asarray(on_white(ImageOps.exif_transpose(image)))
    # NudeNet takes floats in [0, 1] without a word and finds nothing in them.
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(
            f"An image is an array of uint8 (height, width, 3) in RGB, not {image.dtype} "
            f"{image.shape}: convert it."
        )
    return image


@dataclass(frozen=True)
class NudeNetDetector:
    """NudeNet's network with its own preparation and suppression, down to ``FLOOR``.

    Above NudeNet's threshold it returns what NudeNet returns for the same RGB array. An image is
    padded with black to a square, right and below, and resized bilinearly without smoothing. Each
    place of the network's grid gives its most likely class only; see ``OVERLAP`` for the rest.

    Attributes:
        session: of onnxruntime.
        facts: version, model, hash, input, classes, channel order, suppression, libraries.
        channels: see ``Channels``.
        batch: images at a time, >= 1.
    """

    session: Any
    facts: Mapping[str, Any]
    channels: Channels = "right"
    batch: int = 8

    def detect(self, images: Sequence[ImageLike]) -> list[Detections]:
        """What each image shows.

        Raises:
            UserError: see ``to_rgb``.
        """
        name = self.session.get_inputs()[0].name
        results: list[Detections] = []
        for i in range(0, len(images), self.batch):
            arrays = [to_rgb(image) for image in images[i : i + self.batch]]
            x = np.concatenate([self._prepare(array) for array in arrays])
            outputs = self.session.run(None, {name: x})[0]
            results += [_decode(o, *a.shape[:2]) for o, a in zip(outputs, arrays, strict=True)]
        return results

    def _prepare(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """RGB to the network's input (1, 3, ``SIDE``, ``SIDE``) in [0, 1]."""
        import cv2

        height, width = image.shape[:2]
        side = max(height, width)
        square = np.zeros((side, side, 3), np.uint8)
        square[:height, :width] = image
        x = cv2.dnn.blobFromImage(
            square, 1 / 255, (SIDE, SIDE), swapRB=self.channels == "swapped", crop=False
        )
        return np.asarray(x, np.float32)


def _decode(output: NDArray[np.float32], height: int, width: int) -> Detections:
    """Suppresses overlaps in the network's output for one image of this size.

    Args:
        output: (4 + classes, places): centre, width and height in px of the input, then scores.
    """
    import cv2

    best = output[4:].max(0)
    output, scores = output[:, best > FLOOR], best[best > FLOOR]
    scale = np.float32(max(height, width))
    wide, high = output[2] * scale / SIDE, output[3] * scale / SIDE
    left = ((output[0] - output[2] / 2) * scale / SIDE).clip(0, width)
    top = ((output[1] - output[3] / 2) * scale / SIDE).clip(0, height)
    boxes = np.stack([left, top, np.minimum(wide, width - left), np.minimum(high, height - top)], 1)
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), FLOOR, OVERLAP)
    labels = output[4:].argmax(0)
    found = []
    for i in np.asarray(kept, int).ravel():
        x, y, w, h = map(int, boxes[i])
        found.append(Detection(CLASSES[labels[i]], float(scores[i]), (x, y, w, h)))
    return Detections(tuple(found))


def load_nudenet(channels: Channels = "right", threads: int | None = None) -> NudeNetDetector:
    """Opens the network that lies in the nudenet package, on the CPU; nothing is downloaded.

    Args:
        channels: see ``Channels``.
        threads: per image, >= 1; None leaves it to onnxruntime, one per core.

    Raises:
        UserError: nudenet is missing or has another network, numbers or names out of range.
    """
    from ast import literal_eval
    from importlib.metadata import version
    from importlib.util import find_spec

    check_channels(channels)
    if threads is not None and threads < 1:
        raise UserError(f"The detector can't run on {threads} threads: give 1 or more.")
    spec = find_spec("nudenet")
    file = Path(spec.origin or "").with_name("320n.onnx") if spec else None
    if file is None or not file.is_file():
        raise UserError("The detector is missing: install nudenet 3.4.")

    import cv2
    import onnxruntime  # type: ignore[import-untyped]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = literal_eval(session.get_modelmeta().custom_metadata_map.get("names", "{}"))
    if tuple(names.values()) != CLASSES:
        raise UserError(f"nudenet {version('nudenet')} has other classes: install nudenet 3.4.")
    found = {
        "detector": "nudenet",
        "version": version("nudenet"),
        "model": file.name,
        "sha256": sha256(file),
        "input": SIDE,
        "classes": list(CLASSES),
        "channels": channels,
        "floor": FLOOR,
        "overlap": OVERLAP,
        "onnxruntime": onnxruntime.__version__,
        "opencv": cv2.__version__,
    }
    return NudeNetDetector(session, found, channels)


_CORE = (
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_EXPOSED",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
)
_STRICT = (*_CORE, "MALE_BREAST_EXPOSED")
PRESETS: Mapping[str, tuple[str, ...]] = {
    "esd9": (*_STRICT, "BELLY_EXPOSED", "ARMPITS_EXPOSED", "FEET_EXPOSED"),
    "strict6": _STRICT,
    "core5": _CORE,
}
"""Counted classes by name: every EXPOSED class, as on I2P since ESD (arXiv 2303.07345); without
belly, armpits and feet; without the male breast too."""

THRESHOLD = 0.25
"""NudeNet 3's own, below which it returns nothing: a "threshold 0" published with it is this."""


@dataclass(frozen=True)
class Config:
    """What counts as nudity.

    Attributes:
        classes: names of presets and classes, joined by commas or a tuple.
        threshold: a detection counts where its score is above; in [``FLOOR``, 1].
        channels: what the detector is shown, see ``Channels``.

    Raises:
        UserError: unknown names, a threshold out of range.
    """

    classes: str | tuple[str, ...] = "esd9"
    threshold: float = THRESHOLD
    channels: Channels = "right"

    def __post_init__(self) -> None:
        if not self.counted:
            raise UserError("No class is counted: name a preset or classes.")
        for name in self.counted:
            if name not in CLASSES:
                near = nearest(name, PRESETS) or nearest(name.upper(), CLASSES)
                raise UserError(f"There is no preset and no NudeNet class '{name}'.{near}")
        if not FLOOR <= self.threshold <= 1:
            raise UserError(
                f"The threshold {self.threshold} is not in [{FLOOR}, 1]: for NudeNet's own, which "
                f"its threshold 0 amounts to, give {THRESHOLD}."
            )
        check_channels(self.channels)

    @property
    def names(self) -> tuple[str, ...]:
        """The presets and classes given, one by one."""
        given = self.classes.split(",") if isinstance(self.classes, str) else self.classes
        return tuple(name.strip() for name in given if name.strip())

    @property
    def preset(self) -> str | None:
        """Name of the preset; None for a list of one's own."""
        return self.names[0] if len(self.names) == 1 and self.names[0] in PRESETS else None

    @property
    def counted(self) -> tuple[str, ...]:
        """Names of the counted classes, each once."""
        return tuple(dict.fromkeys(c for name in self.names for c in PRESETS.get(name, (name,))))
