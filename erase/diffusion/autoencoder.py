"""The autoencoder of latent diffusion models, AutoencoderKL: images to x_0 and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from erase.runtime.errors import UserError


def stride(vae: Any) -> int:
    """Image px per latent px."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def posterior(vae: Any, images: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations (B, C, h, w) of latents, in the denoiser's range.

    Args:
        vae: the autoencoder.
        images: (B, 3, H, W) in [-1, 1], H and W divisible by ``stride``.
    """
    found = vae.encode(images.to(vae.device, vae.dtype)).latent_dist
    scale = vae.config.scaling_factor
    return found.mean * scale, found.std * scale


def decoded(vae: Any, x0: Tensor) -> Tensor:
    """Images (B, 3, H, W), about in [-1, 1], of latents in the denoiser's range."""
    images: Tensor = vae.decode(x0.to(vae.device, vae.dtype) / vae.config.scaling_factor).sample
    return images


def check_latents(vae: Any, source: str) -> None:
    """See ``check_scale``."""
    check_scale(vae.config, source)


def check_scale(config: Mapping[str, Any], source: str) -> None:
    """Refuses an autoencoder's latents that are not only scaled.

    Raises:
        UserError: they are not; ``source`` says whose.
    """
    if config.get("latents_mean") is not None:
        raise UserError(
            f"{source} shifts its latents by a mean, which is not supported: give a model "
            "that only scales them, like Stable Diffusion 1, 2 and XL."
        )
