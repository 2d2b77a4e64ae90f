"""Stable Diffusion XL: two text encoders, and a denoiser that is also told an image's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from erase.diffusion.conditioning import Conditioning
from erase.diffusion.families.sd import NETWORKS, StableDiffusion, check_configs
from erase.diffusion.text import Text
from erase.formats.layouts import Layout

EMBEDS = "text_time"
"""What the denoiser embeds beside the time, as its configuration calls it."""
SIZES = 6
"""Numbers that say what an image was cut from: its size, the crop's corner, the size wanted."""


def _options(index: Mapping[str, Any]) -> dict[str, Any]:
    """No watermark on the images that are judged."""
    zeros = bool(index.get("force_zeros_for_empty_prompt", True))
    nothing = dict.fromkeys(("feature_extractor", "image_encoder"))
    return {**nothing, "force_zeros_for_empty_prompt": zeros, "add_watermarker": False}


def _read(encoders: Sequence[Any], ids: Sequence[Tensor], _: Tensor | None) -> Conditioning:
    """The last hidden states but one of both encoders, and the second one's pooled text (B, P)."""
    found = [
        encoder(rows.to(encoder.device), output_hidden_states=True)
        for encoder, rows in zip(encoders, ids, strict=True)
    ]
    hidden = torch.cat([f.hidden_states[-2] for f in found], -1)
    return Conditioning(hidden, {"pooled": found[-1].text_embeds})


@dataclass(frozen=True)
class StableDiffusionXL(StableDiffusion):
    """As its predecessors otherwise."""

    layout: ClassVar[Layout] = replace(
        StableDiffusion.layout,
        pipeline="StableDiffusionXLPipeline",
        networks={**NETWORKS, "text_encoder_2": ("transformers", "CLIPTextModelWithProjection")},
        generation=lambda _: "XL",
        check=partial(check_configs, added=EMBEDS),
        options=_options,
    )
    embeds: ClassVar[str | None] = EMBEDS

    def reader(self, device: torch.device) -> Text:
        """Both text encoders; ∅ is zeros in models that were trained so."""
        p = self.pipeline
        encoders = [(p.tokenizer, p.text_encoder), (p.tokenizer_2, p.text_encoder_2)]
        zeros = bool(p.config.get("force_zeros_for_empty_prompt", False))
        return Text(encoders, device, _read, zeros)

    def added(self, x_t: Tensor, c: Conditioning, dtype: torch.dtype) -> dict[str, Tensor]:
        """The pooled text, and that x_t is the whole of an image of its own size."""
        height, width = (self.stride * side for side in x_t.shape[-2:])
        whole = torch.tensor([height, width, 0, 0, height, width])
        ids = whole.expand(len(c), -1).to(x_t.device, dtype)
        return {"text_embeds": c.added["pooled"].to(dtype), "time_ids": ids}

    def blank(self, denoiser: Any, rows: int) -> Conditioning:
        """What is embedded of sizes and pooled text together fills the layer's input."""
        config = denoiser.config
        sizes = SIZES * int(config.addition_time_embed_dim)
        wide = int(config.projection_class_embeddings_input_dim) - sizes
        pooled = torch.empty(rows, wide, device="meta")
        return Conditioning(super().blank(denoiser, rows).hidden, {"pooled": pooled})

    def prompts(self, c: Conditioning, empty: Conditioning | None) -> dict[str, Any]:
        """See ``Family``."""
        told = {**super().prompts(c, empty), "pooled_prompt_embeds": c.added["pooled"]}
        if empty is not None:
            told["negative_pooled_prompt_embeds"] = empty.added["pooled"]
        return told


FAMILY = StableDiffusionXL
