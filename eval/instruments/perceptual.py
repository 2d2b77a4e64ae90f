"""Perceptual distances behind LPIPS: ``mini`` or ``alex``, ``vgg``, ``squeeze``, each ``[@FILE]``.

    LPIPS   Σ_l mean_hw Σ_c w_lc·(â_lc - b̂_lc)²       (Zhang et al., arXiv 1801.03924, equation 1)

over the layers l of a classifier, each pixel's activations scaled to length 1. ``alex``, ``vgg``
and ``squeeze`` are the published ones, version 0.1, as torchmetrics has them. ``mini`` takes the
bundled feature network with w = 1: nothing was learned for it, and it compares with no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from erase.eval.instruments.weights import read_weights
from erase.runtime.errors import UserError
from erase.runtime.files import bundled
from erase.runtime.fingerprint import fingerprint

BACKBONES = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
"""The published distances, with torchvision's names of their networks."""
Pixels = NDArray[np.uint8]


class Perceptual(Protocol):
    """A distance between two images.

    Attributes:
        name: stands in brackets behind LPIPS.
        facts: what the distances depend on.
    """

    @property
    def name(self) -> str: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...

    def __call__(self, a: Sequence[Pixels], b: Sequence[Pixels]) -> list[float]:
        """One distance >= 0 for each pair of RGB images (H, W, 3) of equal size."""
        ...


PIXELS = 4 * 512 * 512
"""Most pixels of a side that a network sees at a time: over VGG about 2.5 GB."""


@dataclass(frozen=True)
class NetworkDistance:
    """A distance made of a network.

    Attributes:
        name, facts: see ``Perceptual``.
        distance: two batches (B, 3, H, W) in [-1, 1] to (B,).
        device: where it computes.
    """

    name: str
    facts: Mapping[str, Any]
    distance: Callable[[Tensor, Tensor], Tensor]
    device: torch.device

    @torch.inference_mode()
    def __call__(self, a: Sequence[Pixels], b: Sequence[Pixels]) -> list[float]:
        """See ``Perceptual``."""
        if len({image.shape for image in (*a, *b)}) > 1:
            return [d for x, y in zip(a, b, strict=True) for d in self._pair(x, y)]
        found: list[float] = []
        most = max(1, PIXELS // (a[0].shape[0] * a[0].shape[1])) if a else 1
        for start in range(0, len(a), most):
            part = (side[start : start + most] for side in (a, b))
            sides = [torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2) for side in part]
            x, y = (side.to(self.device).float() / 127.5 - 1 for side in sides)
            found += self.distance(x, y).double().cpu().tolist()
        return found

    def _pair(self, a: Pixels, b: Pixels) -> list[float]:
        if a.shape != b.shape:
            raise UserError(
                f"LPIPS compares images of one size, but a pair has {a.shape[1]} × {a.shape[0]} "
                f"and {b.shape[1]} × {b.shape[0]} px: make both sides with the same --size."
            )
        return self([a], [b])


def check_perceptual(spec: str) -> None:
    """Refuses a spec that no distance can be opened from; cheap, so that it can run early.

    Raises:
        UserError: no such network, or a file that is not there.
    """
    kind, at, file = spec.partition("@")
    if kind not in ("mini", *BACKBONES) or (at and kind == "mini"):
        raise UserError(
            f"'{spec}' is not a perceptual distance: write mini or alex, vgg or squeeze, each "
            "[@FILE]."
        )
    if at and not Path(file).is_file():
        raise UserError(
            f"There is no file {file}: give the weights of torchvision's {BACKBONES[kind]}."
        )


def load_perceptual(spec: str, device: str | torch.device = "cpu") -> Perceptual:
    """Opens a perceptual distance.

    Args:
        spec: see the module. Without a file, the published network is downloaded.
        device: where it computes.

    Raises:
        UserError: no such distance, or weights that can't be read, fetched or don't fit.
    """
    check_perceptual(spec)
    place = torch.device(device)
    kind, _, file = spec.partition("@")
    if kind == "mini":
        return _mini(place)
    network = _published(kind, Path(file) if file else None).to(place)
    facts = {"spec": spec, "weights": fingerprint(network), "version": "0.1"}
    return NetworkDistance(kind, facts, lambda x, y: network(x, y).flatten(), place)


def _published(kind: str, file: Path | None) -> nn.Module:
    from torchmetrics.functional.image.lpips import _LPIPS

    try:
        network: nn.Module = _LPIPS(net=kind, pnet_rand=file is not None)  # type: ignore[arg-type]
    except OSError as error:
        raise UserError(
            f"The weights of {BACKBONES[kind]} can't be fetched ({error}): give torchvision's file "
            f"with {kind}@FILE."
        ) from error
    if file is not None:
        given, _ = read_weights(file)
        backbone = network.get_submodule("net")
        # features.N of torchvision is sliceK.N here.
        wanted = {name: f"features.{name.partition('.')[2]}" for name in backbone.state_dict()}
        missing = [key for key in wanted.values() if key not in given]
        if missing:
            raise UserError(
                f"{file} lacks {missing[0]}: give the state dict of torchvision's "
                f"{BACKBONES[kind]}."
            )
        try:
            backbone.load_state_dict({name: given[key] for name, key in wanted.items()})
        except RuntimeError as error:
            raise UserError(
                f"{file} is not torchvision's {BACKBONES[kind]}: its tensors have other shapes."
            ) from error
    return network.eval()


def _mini(device: torch.device) -> NetworkDistance:
    from erase.eval.instruments.bundled import load_features
    from erase.runtime.files import sha256

    file = bundled("judges") / "features.safetensors"
    if not file.exists():
        raise UserError(f"The bundled features {file} are missing: install the package again.")
    network = load_features(file.parent).to(device)

    def distance(x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros(len(x), device=x.device)
        for a, b in zip(network.layers((x + 1) / 2), network.layers((y + 1) / 2), strict=True):
            change = nn.functional.normalize(a, dim=1) - nn.functional.normalize(b, dim=1)
            total += change.square().sum(1).mean((1, 2))
        return total

    return NetworkDistance("mini", {"sha256": sha256(file)}, distance, device)
