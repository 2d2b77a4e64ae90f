"""What tells two diffusion models apart: weights and configurations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from erase.formats.layouts import part_of
from erase.runtime.files import digest

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion


_NO_EFFECT = ("transformers_version", "architectures", "dtype", "torch_dtype")
"""Entries of a configuration that say where a model comes from, not what it does."""


def model_fingerprint(diffusion: Diffusion) -> dict[str, str]:
    """Hashes of the networks' weights, whatever files they came from, and of the rest.

    ``settings`` covers what else decides the images: configurations, the noise schedule, and what
    prompts are read by.
    """
    from erase.runtime.fingerprint import fingerprint

    own = diffusion.family.layout.denoiser
    networks: dict[str, Any] = {
        "denoiser" if n == own else n: net for n, net in diffusion.networks.items()
    }
    texts = [net.config.to_dict() for n, net in networks.items() if part_of(n) == "text_encoder"]
    others = [net.config for n, net in networks.items() if part_of(n) == "denoiser"]
    configs = [*others, diffusion.pipeline.scheduler.config, *texts]
    told = [{k: v for k, v in c.items() if k not in _NO_EFFECT and k[0] != "_"} for c in configs]
    read = diffusion.reader.facts()
    settings = digest(json.loads(json.dumps([told, *read], default=str)))
    return {name: fingerprint(net) for name, net in networks.items()} | {"settings": settings}
