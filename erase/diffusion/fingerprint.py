"""What tells two diffusion models apart: weights and configurations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from erase.runtime.files import digest

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion


_NO_EFFECT = ("transformers_version", "architectures", "dtype", "torch_dtype")
"""Entries of a configuration that say where a model comes from, not what it does."""


def model_fingerprint(diffusion: Diffusion) -> dict[str, str]:
    """Hashes of the networks' weights, whatever files they came from, and of the rest.

    ``settings`` covers what else decides the images: configurations, the noise schedule, the
    tokenizers' vocabularies.
    """
    from erase.runtime.fingerprint import fingerprint

    p = diffusion.pipeline
    networks = {n.replace("unet", "denoiser"): net for n, net in diffusion.networks.items()}
    texts = [encoder.config.to_dict() for _, encoder in diffusion.text.encoders]
    configs = [p.unet.config, p.vae.config, p.scheduler.config, *texts]
    told = [{k: v for k, v in c.items() if k not in _NO_EFFECT and k[0] != "_"} for c in configs]
    words = [
        [sorted(tokenizer.get_vocab().items()), tokenizer.pad_token_id]
        for tokenizer, _ in diffusion.text.encoders
    ]
    zeros = p.config.get("force_zeros_for_empty_prompt", False)
    settings = digest(json.loads(json.dumps([told, words, zeros], default=str)))
    return {name: fingerprint(net) for name, net in networks.items()} | {"settings": settings}
