"""Stable Diffusion 1 and 2: a U-Net in the latents of an autoencoder, told one CLIP text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from erase.diffusion.autoencoder import check_latents, check_scale, decoded, posterior, stride
from erase.diffusion.conditioning import Conditioning
from erase.diffusion.discrete import Discrete
from erase.diffusion.samplers import sampling
from erase.diffusion.scopes import in_scope
from erase.diffusion.text import Text
from erase.formats.layouts import Layout, Read
from erase.formats.supported import check_denoiser, refuse_unsupported

NETWORKS: Mapping[str, tuple[str, str]] = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
}


def _generation(read: Read) -> str:
    """``1``, or ``2``, whose text encoder is OpenCLIP's."""
    told = read("text_encoder/config.json").get("hidden_act", "quick_gelu")
    return "1" if told == "quick_gelu" else "2"


DEFAULTS = {
    "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
}
"""What diffusers takes a denoiser for that does not say."""


def check_configs(read: Read, source: str, added: str | None = None) -> None:
    """Refuses a denoiser that wants more than a noisy latent, a time and a text.

    Args:
        read: see ``Read``.
        source: the model in messages.
        added: what the denoiser embeds beside the time, as its configuration calls it.

    Raises:
        UserError: it is one.
    """
    unet, vae = read("unet/config.json"), read("vae/config.json")
    check_denoiser(unet, vae, source, added=added)
    refuse_unsupported(
        {**DEFAULTS, **unet}, read("scheduler/scheduler_config.json"), source, added=added
    )
    check_scale(vae, source)


def _options(_: Mapping[str, Any]) -> dict[str, Any]:
    """Nothing that blackens or reads images: black would count as erased."""
    nothing = dict.fromkeys(("safety_checker", "feature_extractor", "image_encoder"))
    return {**nothing, "requires_safety_checker": False}


def _read(encoders: Sequence[Any], ids: Sequence[Tensor], mask: Tensor | None) -> Conditioning:
    """The text encoder's last hidden states."""
    (encoder,), (rows,) = encoders, ids
    used = getattr(encoder.config, "use_attention_mask", False) and mask is not None
    masked = mask.to(encoder.device) if used and mask is not None else None
    return Conditioning(encoder(rows.to(encoder.device), attention_mask=masked)[0])


@dataclass(frozen=True)
class StableDiffusion(Discrete):
    """It works in the latents of its autoencoder."""

    layout: ClassVar[Layout] = Layout(
        "StableDiffusionPipeline", NETWORKS, _generation, check_configs, _options
    )
    embeds: ClassVar[str | None] = None

    def check(self, source: str) -> None:
        """See ``Family``."""
        p = self.pipeline
        refuse_unsupported(p.unet.config, p.scheduler.config, source, added=self.embeds)
        check_latents(p.vae, source)

    def reader(self, device: torch.device) -> Text:
        """See ``Family``: the text encoder."""
        return Text([(self.pipeline.tokenizer, self.pipeline.text_encoder)], device, _read)

    @property
    def stride(self) -> int:
        """See ``Family``."""
        return stride(self.pipeline.vae)

    @property
    def multiple(self) -> int:
        """See ``Family``; the U-Net itself takes any size."""
        return self.stride

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """See ``Family``."""
        return posterior(self.pipeline.vae, images)

    def decode(self, x0: Tensor) -> Tensor:
        """See ``Family``."""
        return decoded(self.pipeline.vae, x0)

    def predict(self, denoiser: nn.Module, x_t: Tensor, t: Tensor, c: Conditioning) -> Tensor:
        """See ``Family``."""
        dtype = next(denoiser.parameters()).dtype
        added = self.added(x_t, c, dtype)
        predicted: Tensor = denoiser(
            x_t.to(dtype), t, c.hidden.to(dtype), added_cond_kwargs=added
        ).sample
        return predicted

    def added(self, x_t: Tensor, c: Conditioning, dtype: torch.dtype) -> dict[str, Tensor] | None:
        """What the denoiser embeds beside the time: here nothing."""
        return None

    def blank(self, denoiser: Any, rows: int) -> Conditioning:
        """See ``Family``."""
        shape = (rows, 77, int(denoiser.config.cross_attention_dim))
        return Conditioning(torch.empty(shape, device="meta"))

    def in_scope(self, scope: str, name: str) -> bool:
        """See ``Family``."""
        return in_scope(scope, name)

    def denoise(
        self,
        sampler: Any,
        noise: Tensor,
        c: Conditioning,
        empty: Conditioning | None,
        *,
        steps: int,
        guidance: float,
    ) -> Tensor:
        """See ``Family``: by the pipeline itself."""
        height, width = (self.stride * side for side in noise.shape[-2:])
        with sampling(self.pipeline, sampler) as pipeline:
            x0: Tensor = pipeline(
                **self.prompts(c, empty),
                latents=noise,
                num_inference_steps=steps,
                guidance_scale=guidance,
                height=height,
                width=width,
                output_type="latent",
            ).images
        return x0

    def prompts(self, c: Conditioning, empty: Conditioning | None) -> dict[str, Any]:
        """What the pipeline is given in place of prompts; ``empty`` where it guides away."""
        told = {"prompt_embeds": c.hidden}
        if empty is not None:
            told["negative_prompt_embeds"] = empty.hidden
        return told


FAMILY = StableDiffusion
