"""SalUn's published recipe, written plainly, to measure ours against.

As the published code does it: images and prompts go through the autoencoder and the text encoder
at every step, forget images twice; the three branches are predicted one after the other, the
anchor's with a graph that is thrown away; gradients of all weights are multiplied by a mask that
is copied to the device at every step; Adam holds moments of all weights, which lie as diffusers
loads them. Only its ``sleep`` and its mistakes are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from erase.diffusion.model import Diffusion


@dataclass(frozen=True)
class Pictures:
    """Images (N, 3, H, W) in [-1, 1] on the CPU, as a data loader would hand them over, and the
    prompts of each."""

    pixels: Tensor
    prompts: Sequence[str]


def encode(diffusion: Diffusion, pixels: Tensor) -> Tensor:
    """One sample x_0 of the autoencoder's posterior for each image."""
    vae = diffusion.pipeline.vae
    with torch.no_grad():
        found = vae.encode(pixels.to(diffusion.device)).latent_dist.sample()
    x0: Tensor = found * vae.config.scaling_factor
    return x0


def noised(diffusion: Diffusion, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, t and ε."""
    noise = torch.randn_like(x0)
    t = torch.randint(diffusion.timesteps, (len(x0),), device=x0.device)
    return diffusion.add_noise(x0, noise, t), t, noise


def step(
    diffusion: Diffusion,
    optimizer: torch.optim.Optimizer,
    mask: Mapping[str, Tensor],
    forget: Pictures,
    retain: Pictures,
    anchor: Sequence[str],
    alpha: float,
) -> float:
    """One step of the fine-tune; returns the loss."""
    optimizer.zero_grad()
    x_t, t, noise = noised(diffusion, encode(diffusion, retain.pixels))
    kept = mse_loss(diffusion.predict(x_t, t, diffusion.embed(retain.prompts)), noise)
    x0 = encode(diffusion, forget.pixels)
    encode(diffusion, forget.pixels)  # the anchor's batch: the same images again
    x_t, t, _ = noised(diffusion, x0)
    ours = diffusion.predict(x_t, t, diffusion.embed(forget.prompts))
    theirs = diffusion.predict(x_t, t, diffusion.embed(anchor)).detach()
    loss = mse_loss(ours, theirs) + alpha * kept
    torch.autograd.backward(loss)
    for name, parameter in diffusion.denoiser.named_parameters():
        if parameter.grad is not None:
            parameter.grad *= mask[name].to(parameter.device)
    optimizer.step()
    return loss.item()


def saliency(diffusion: Diffusion, batches: Sequence[Pictures], w: float) -> dict[str, Tensor]:
    """|Σ g| over the batches, summed on the CPU."""
    parameters = dict(diffusion.denoiser.named_parameters())
    sums = {name: torch.zeros(p.shape) for name, p in parameters.items()}
    for batch in batches:
        x_t, t, noise = noised(diffusion, encode(diffusion, batch.pixels))
        conditional = diffusion.predict(x_t, t, diffusion.embed(batch.prompts))
        empty = diffusion.embed([""] * len(batch.prompts))
        unconditional = diffusion.predict(x_t, t, empty)
        predicted = (1 + w) * conditional - w * unconditional
        torch.autograd.backward(mse_loss(predicted, noise))
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                sums[name] += parameter.grad.cpu()
                parameter.grad = None
    return {name: total.abs() for name, total in sums.items()}
