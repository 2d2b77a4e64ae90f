"""Stable Diffusion 1 and 2: a U-Net in the latents of an autoencoder, told one CLIP text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from erase.diffusion.conditioning import Conditioning
from erase.diffusion.samplers import check_sampling, make_sampler, training_schedule
from erase.diffusion.scopes import in_scope
from erase.diffusion.text import Text
from erase.formats.layouts import Layout, Read
from erase.formats.supported import check_denoiser, refuse_unsupported
from erase.runtime.errors import UserError

NETWORKS: Mapping[str, tuple[str, str]] = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
}


def _generation(read: Read) -> str:
    """``1``, or ``2``, whose text encoder is OpenCLIP's."""
    told = read("text_encoder/config.json").get("hidden_act", "quick_gelu")
    return "1" if told == "quick_gelu" else "2"


def check_configs(read: Read, source: str, added: str | None = None) -> None:
    """Refuses a denoiser that wants more than a noisy latent, a time and a text.

    Args:
        read: see ``Read``.
        source: the model in messages.
        added: what the denoiser embeds beside the time, as its configuration calls it.

    Raises:
        UserError: it is one.
    """
    check_denoiser(read("unet/config.json"), read("vae/config.json"), source, added=added)


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
class StableDiffusion:
    """Its noise comes in discrete steps; it predicts the noise or the velocity."""

    pipeline: Any
    layout: ClassVar[Layout] = Layout(
        "StableDiffusionPipeline", NETWORKS, _generation, check_configs, _options
    )
    embeds: ClassVar[str | None] = None

    @property
    def timesteps(self) -> int:
        """Number T of noise levels; t runs over 0 … T-1."""
        return int(self.pipeline.scheduler.config.num_train_timesteps)

    @cached_property
    def schedule(self) -> Any:
        """The noise schedule √ᾱ of training; the pipeline's sampler may scale x_t otherwise."""
        return training_schedule(self.pipeline.scheduler.config)

    def check(self, source: str) -> None:
        """See ``Family``."""
        p = self.pipeline
        refuse_unsupported(p.unet.config, p.scheduler.config, source, added=self.embeds)
        if p.vae.config.latents_mean is not None:
            raise UserError(
                f"{source} shifts its latents by a mean, which is not supported: give a model "
                "that only scales them, like Stable Diffusion 1, 2 and XL."
            )

    def text(self, device: torch.device) -> Text:
        """See ``Family``."""
        return Text([(self.pipeline.tokenizer, self.pipeline.text_encoder)], device, _read)

    def times(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """t, uniform in [0, T)."""
        return torch.randint(self.timesteps, tuple(shape), generator=generator)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t = √ᾱ_t x_0 + √(1-ᾱ_t) ε."""
        x_t: Tensor = self.schedule.add_noise(x0, noise, t)
        return x_t

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """ε, or v = √ᾱ ε - √(1-ᾱ) x_0."""
        kind = self.pipeline.scheduler.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            v: Tensor = self.schedule.get_velocity(x0, noise, t)
            return v
        raise UserError(f"Models that predict '{kind}' are not supported: use epsilon or v.")

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

    def sampler(self, name: str) -> Any:
        """See ``Family``."""
        return make_sampler(name, self.pipeline.scheduler.config)

    def check_sampling(
        self,
        steps: int,
        sampler: str | None,
        flag: str = "--sampling-steps",
        remedy: str = "use another model",
    ) -> None:
        """See ``Family``."""
        check_sampling(self.pipeline.scheduler, steps, sampler, flag, remedy)

    def prompts(self, c: Conditioning, empty: Conditioning | None) -> dict[str, Any]:
        """See ``Family``."""
        told = {"prompt_embeds": c.hidden}
        if empty is not None:
            told["negative_prompt_embeds"] = empty.hidden
        return told


FAMILY = StableDiffusion
