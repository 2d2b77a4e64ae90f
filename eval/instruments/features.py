"""Feature networks behind FID and KID: ``mini``, ``inception[@FILE]``, ``open_clip:NAME[@FILE]``.

``inception`` is the network of the published FID, Inception v3 with TensorFlow's weights and
resizing as torch-fidelity has it; its distances alone are called FID and KID without a name in
brackets.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from erase.eval.instruments.clip import check_clip, load_clip
from erase.eval.instruments.judges import to_pil
from erase.eval.instruments.spec import needs_fetching, parse_spec
from erase.formats.tensors import read_tensors
from erase.runtime.errors import UserError, clipped, reason
from erase.runtime.files import bundled
from erase.runtime.fingerprint import fingerprint

STANDARD = "inception"
DIMENSIONS = 2048


@dataclass(frozen=True)
class Inception:
    """Inception v3's 2048 pooled features.

    Attributes:
        name, dimensions, facts: see ``Extractor``.
        network: torch-fidelity's, uint8 (B, 3, H, W) to a tuple of one (B, 2048).
        device: where it lies.
    """

    facts: Mapping[str, Any]
    network: nn.Module
    device: torch.device
    name: str = STANDARD
    dimensions: int = DIMENSIONS

    @torch.inference_mode()
    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features (B, 2048); the network resizes."""
        if len({image.shape for image in images}) > 1:
            return np.concatenate([self([image]) for image in images])
        x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(self.device)
        features: Tensor = self.network(x)[0]
        found: NDArray[np.float32] = features.float().cpu().numpy()
        return found


@dataclass(frozen=True)
class ClipFeatures:
    """The normalised image embedding of an open_clip model.

    Attributes:
        name, dimensions, facts: see ``Extractor``.
        clip: the model.
        device: where it lies.
    """

    name: str
    dimensions: int
    facts: Mapping[str, Any]
    clip: Any
    device: torch.device

    @torch.inference_mode()
    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features (B, D)."""
        x = torch.stack([self.clip.preprocess(to_pil(image)) for image in images]).to(self.device)
        found: NDArray[np.float32] = self.clip.model.encode_image(x, normalize=True).cpu().numpy()
        return found


def check_extractor(spec: str) -> None:
    """Refuses a spec that no network can be opened from; cheap, so that it can run early.

    Raises:
        UserError: no such network, or a file that is not there.
    """
    kind, _, file = spec.partition("@")
    if spec.startswith("open_clip:"):
        parse_spec(spec)
    elif kind not in ("mini", "inception") or (file and kind == "mini"):
        raise UserError(
            f"'{clipped(spec, 100)}' is not a feature network: write mini, inception[@FILE] or "
            "open_clip:NAME[@FILE]."
        )
    elif file and not Path(file).is_file():
        raise UserError(f"There is no file {file}: give torch-fidelity's Inception weights.")


def load_extractor(
    spec: str, device: str | torch.device = "cpu", *, fetch: bool = True
) -> Extractor | None:
    """Opens a feature network; None where it would have to be fetched and may not.

    Args:
        spec: see the module. Without a file, ``inception`` and open_clip's published weights are
            downloaded.
        device: where it computes.
        fetch: whether weights may be downloaded.

    Raises:
        UserError: no such network, or weights that can't be read or fetched.
    """
    check_extractor(spec)
    if not fetch and spec.startswith("open_clip:") and needs_fetching(spec):
        check_clip(spec)
        return None
    if not fetch and spec == "inception":
        return None
    place = torch.device(device)
    if spec == "mini":
        return mini_extractor(device)
    kind, _, file = spec.partition("@")
    if kind == "inception":
        return _inception(Path(file) if file else None, place)
    name = parse_spec(spec)[1]
    clip = load_clip(spec, place)
    size = int(clip.model.visual.output_dim)
    return ClipFeatures(f"open_clip:{name}", size, {"spec": spec, **clip.facts}, clip, place)


def _inception(file: Path | None, device: torch.device) -> Inception:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    try:
        if file is None:
            network = FeatureExtractorInceptionV3("inception", [str(DIMENSIONS)])
        else:
            # torch-fidelity would execute a pickle: it gets a copy of the plain tensors.
            with tempfile.TemporaryDirectory() as folder:
                plain = Path(folder) / "weights.pth"
                torch.save(read_tensors(file), plain)
                network = FeatureExtractorInceptionV3(
                    "inception", [str(DIMENSIONS)], feature_extractor_weights_path=str(plain)
                )
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"Inception's weights can't be opened ({reason(error)}): give torch-fidelity's file "
            "with inception@FILE."
        ) from error
    network.to(device)
    facts = {"weights": fingerprint(network), "resize": "bilinear to 299 px, as TensorFlow 1 does"}
    return Inception(facts, network, device)


"""The extractor whose distances are called FID and KID without a name in brackets."""
Features = NDArray[np.float32]
"""One image's features (D,)."""


class Extractor(Protocol):
    """A feature network.

    Attributes:
        name: stands in brackets behind FID and KID.
        dimensions: D, number of features.
        facts: what the features depend on: weights, resizing. Cached with, and printed.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """RGB images (H, W, 3) to features (B, D)."""
        ...


@dataclass(frozen=True)
class NetworkExtractor:
    """An extractor made of a network.

    Attributes:
        name, dimensions, facts: see ``Extractor``.
        network: float pictures in [0, 1] (B, 3, side, side) to (B, D).
        side: in px; larger and smaller images are resized to it.
        device: where the network lies.
    """

    name: str
    dimensions: int
    facts: Mapping[str, Any]
    network: nn.Module
    side: int
    device: torch.device

    @torch.inference_mode()
    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features (B, D)."""
        x = torch.cat([self._prepare(image) for image in images])
        found: NDArray[np.float32] = self.network(x).float().cpu().numpy()
        return found

    def _prepare(self, image: NDArray[np.uint8]) -> Tensor:
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(self.device).float() / 255
        if x.shape[-2:] == (self.side, self.side):
            return x
        return nn.functional.interpolate(x, (self.side, self.side), mode="bilinear", antialias=True)


def mini_extractor(device: str | torch.device = "cpu") -> NetworkExtractor:
    """The bundled model's own feature network.

    Raises:
        UserError: the installation lacks it.
    """
    from erase.eval.instruments.bundled import FEATURES, SIDE, load_features
    from erase.runtime.files import sha256

    file = bundled("judges") / "features.safetensors"
    if not file.exists():
        raise UserError(f"The bundled features {file} are missing: install the package again.")
    network = load_features(file.parent).to(device)
    facts = {"sha256": sha256(file), "resize": f"bilinear to {SIDE} px"}
    return NetworkExtractor("mini", FEATURES, facts, network, SIDE, torch.device(device))
