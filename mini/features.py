"""Opens the feature network behind ``FID[mini]`` and ``KID[mini]``."""

from __future__ import annotations

import json
from pathlib import Path

from erase.mini.models import FeatureNet


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
