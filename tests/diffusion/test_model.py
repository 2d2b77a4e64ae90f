"""The boundary to diffusers: every verb against the library called by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from erase.diffusion.model import Diffusion
from erase.images.request import SAMPLERS, Sampler, Shot
from erase.runtime.errors import UserError


def test_sampling_equals_the_stock_pipeline(tiny: Diffusion, tiny_folder: Path) -> None:
    stock = StableDiffusionPipeline.from_pretrained(tiny_folder, safety_checker=None)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config)
    prompts, seeds = ["a church", "an owl"], [7, 8]
    latents = torch.stack(
        [torch.randn(4, tiny.size // tiny.stride, tiny.size // tiny.stride,
                     generator=torch.Generator().manual_seed(s)) for s in seeds]
    )  # fmt: skip
    expected = stock(
        prompts, latents=latents, num_inference_steps=3, guidance_scale=4.0, output_type="np"
    ).images
    shots = [Shot(p, s) for p, s in zip(prompts, seeds, strict=True)]
    images = tiny.sample(shots, Sampler("ddim", 3, 4.0))
    assert np.abs(images.astype(int) - (expected * 255).round().astype(int)).max() <= 1


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_leaves_the_pipeline_as_it_was(tiny: Diffusion, name: str) -> None:
    kept = tiny.pipeline.scheduler
    images = tiny.sample([Shot("a", 0)], Sampler(name, 2, 2.0))
    assert images.shape == (1, tiny.size, tiny.size, 3)
    assert tiny.pipeline.scheduler is kept


def test_guidance_one_needs_no_empty_prompt_and_guidance_matters(tiny: Diffusion) -> None:
    one, four = (tiny.sample([Shot("a", 0)], Sampler("ddim", 2, g)) for g in (1.0, 4.0))
    own = tiny.sample([Shot("a", 0, 4.0)], Sampler("ddim", 2, 1.0))
    assert (one != four).any()
    assert (own == four).all()


def test_noise_depends_on_its_own_seed_alone(tiny: Diffusion) -> None:
    assert torch.equal(tiny.noise([3, 5])[1], tiny.noise([5, 9, 3])[0])


def test_encode_gives_the_scaled_posterior(tiny: Diffusion) -> None:
    image = np.random.default_rng(0).integers(0, 256, (2, tiny.size, tiny.size, 3), np.uint8)
    x = torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    with torch.no_grad():
        posterior = tiny.pipeline.vae.encode(x).latent_dist
    factor = tiny.pipeline.vae.config.scaling_factor
    mean, std = tiny.encode(image).unbind(1)
    torch.testing.assert_close(mean, posterior.mean * factor, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(std, posterior.std * factor, rtol=1e-4, atol=1e-5)


def test_embed_equals_the_text_encoder(tiny: Diffusion) -> None:
    prompts = ["a church", ""]
    with torch.no_grad():
        expected, _ = tiny.pipeline.encode_prompt(prompts, "cpu", 1, False)
    torch.testing.assert_close(tiny.embed(prompts).hidden, expected)


def test_noise_and_target_follow_the_schedule(tiny: Diffusion, tiny_v: Diffusion) -> None:
    g = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 3, 4, 8, 8, generator=g)
    t = torch.tensor([0, 500, 999])
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)[t]
    a, b = abar.sqrt().view(3, 1, 1, 1), (1 - abar).sqrt().view(3, 1, 1, 1)
    torch.testing.assert_close(tiny.add_noise(x0, noise, t), a * x0 + b * noise)
    assert tiny.target(x0, noise, t) is noise
    torch.testing.assert_close(tiny_v.target(x0, noise, t), a * noise - b * x0)
    velocity = tiny_v.pipeline.scheduler.get_velocity(x0, noise, t)
    torch.testing.assert_close(tiny_v.target(x0, noise, t), velocity)


def test_other_predictions_are_refused(tiny_v: Diffusion) -> None:
    scheduler = tiny_v.pipeline.scheduler
    tiny_v.pipeline.scheduler = DDIMScheduler.from_config(
        {**scheduler.config, "prediction_type": "sample"}
    )
    try:
        x = torch.zeros(1, 4, 8, 8)
        with pytest.raises(UserError, match="predict 'sample'"):
            tiny_v.target(x, x, torch.tensor([1]))
    finally:
        tiny_v.pipeline.scheduler = scheduler


def test_channels_last_makes_the_same_images(tiny_folder: Path) -> None:
    last = Diffusion.load(str(tiny_folder))  # as always on a CPU
    other = Diffusion.load(str(tiny_folder))
    for name in ("unet", "vae"):
        torch.nn.Module.to(other.networks[name], memory_format=torch.contiguous_format)
    kernels = [d.denoiser.get_parameter("conv_in.weight") for d in (last, other)]
    layouts = [k.is_contiguous(memory_format=torch.channels_last) for k in kernels]
    assert layouts == [True, False]
    shots, sampler = [Shot("a church", seed=s) for s in (1, 2)], Sampler("ddim", 3, 5.0)
    ours, theirs = (d.sample(shots, sampler).astype(int) for d in (last, other))
    assert np.abs(ours - theirs).max() <= 1


@pytest.mark.slow
def test_a_compiled_denoiser_makes_the_same_images(tiny_folder: Path, tiny: Diffusion) -> None:
    other = Diffusion.load(str(tiny_folder), compiled=True)
    names = [n for n, _ in other.denoiser.named_parameters()]
    shots, sampler = [Shot("a church", seed=s) for s in (1, 2)], Sampler("ddim", 3, 5.0)
    ours, theirs = (d.sample(shots, sampler).astype(int) for d in (tiny, other))
    assert np.abs(ours - theirs).max() <= 1
    # The names that a mask counts on, and what training needs, are as they were.
    assert names == [n for n, _ in tiny.denoiser.named_parameters()]
    x, t, c = torch.randn(2, 4, 8, 8), torch.tensor([1, 9]), tiny.embed(["a church", "a dog"])
    assert torch.equal(tiny.predict(x, t, c), other.predict(x, t, c))
