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

    own = diffusion.family.layout.denoiser
    networks = {"denoiser" if n == own else n: net for n, net in diffusion.networks.items()}
    texts = [encoder.config.to_dict() for _, encoder in diffusion.text.encoders]
    others = [net.config for n, net in networks.items() if not n.startswith("text_encoder")]
    configs = [*others, diffusion.pipeline.scheduler.config, *texts]
    told = [{k: v for k, v in c.items() if k not in _NO_EFFECT and k[0] != "_"} for c in configs]
    words = [
        [sorted(tokenizer.get_vocab().items()), tokenizer.pad_token_id]
        for tokenizer, _ in diffusion.text.encoders
    ]
    settings = digest(json.loads(json.dumps([told, words, diffusion.text.zeros], default=str)))
    return {name: fingerprint(net) for name, net in networks.items()} | {"settings": settings}
