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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from erase.errors import UserError, clipped, reason
from erase.eval.clip import check_clip, load_clip
from erase.eval.judges import to_pil
from erase.eval.metrics.fidelity import STANDARD, Extractor, mini_extractor
from erase.eval.opening import needs_fetching, parse_spec
from erase.tensors import read_tensors
from erase.weights import fingerprint

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
        raise UserError(f"There is no file {file}: give Inception's weights as torch-fidelity has.")


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
