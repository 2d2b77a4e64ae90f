"""Opens the feature network behind ``FID[mini]`` and ``KID[mini]``."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from torch import Tensor, nn

from erase.runtime.files import bundled


def load_features(judges: Path) -> FeatureNet:
    """The feature network in evaluation mode.

    Args:
        judges: folder that holds ``features.safetensors``.
    """
    from safetensors import safe_open

    with safe_open(judges / "features.safetensors", "pt") as file:
        labels = json.loads(file.metadata()["judge"])["labels"]
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    net = FeatureNet(len(labels))
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def mini_clip() -> str:
    """Spec of the bundled open_clip model."""
    return f"open_clip:mini@{bundled('judges') / 'clip'}"


SIDE = 64
"""Of the bundled model's images, px."""
FEATURES = 64
"""Dimensions of the feature network behind ``FID[mini]`` and ``KID[mini]``."""


_STAGE = 6
"""Layers of a stage of ``FeatureNet``: twice convolution, normalisation, activation."""


class FeatureNet(nn.Module):
    """Plain convolutional network whose 64 last features define ``FID[mini]``.

    ``forward`` takes float pictures in [0, 1] of shape (B, 3, 64, 64) and returns (B, 64).
    """

    num_features = FEATURES

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (3, 24, 48, 64, FEATURES)
        layers: list[nn.Module] = []
        for i, o in itertools.pairwise(widths):
            layers += [nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(o)]
            layers += [nn.SiLU(), nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o)]
            layers += [nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[-1].mean((2, 3))

    def layers(self, x: Tensor) -> list[Tensor]:
        """The outputs of the four stages: (B, 24, 32, 32) to (B, 64, 4, 4)."""
        found = []
        x = x * 2 - 1
        for number, layer in enumerate(self.body, 1):
            x = layer(x)
            if number % _STAGE == 0:
                found.append(x)
        return found
