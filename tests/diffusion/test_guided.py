"""Guidance of our own against diffusers' pipelines, on a tiny Stable Diffusion."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from erase.diffusion.model import Diffusion
from erase.images.request import Sampler, Shot
from erase.methods import negative_prompt, sld
from erase.runtime.errors import UserError
from tests.tiny import tiny_sdxl

SHOTS = [Shot("a red church", 5), Shot("a dog", 6)]
SAMPLER = Sampler("ddim", 4, 3.0, 16)


def by_pipeline(tiny: Diffusion, kind: str, **given: Any) -> NDArray[np.uint8]:
    """The same two images by one of diffusers' pipelines."""
    import diffusers

    parts = {k: v for k, v in tiny.pipeline.components.items() if k != "image_encoder"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = getattr(diffusers, kind)(**parts, requires_safety_checker=False)
    made.scheduler = tiny.family.sampler("ddim")
    made.safety_checker = None
    made.set_progress_bar_config(disable=True)
    if kind == "StableDiffusionPipelineSafe":
        made.safety_concept = "church"
    images = made(
        [s.prompt for s in SHOTS],
        latents=tiny.noise([s.seed for s in SHOTS], 16),
        num_inference_steps=4,
        guidance_scale=3.0,
        height=16,
        width=16,
        output_type="np",
        **given,
    ).images
    return np.asarray((255 * images).round(), np.uint8)


def test_a_negative_prompt_is_that_of_the_pipeline(tiny: Diffusion) -> None:
    maker = negative_prompt.maker(tiny, negative_prompt.Config(), "church")
    made = maker.sample(SHOTS, SAMPLER)
    wanted = by_pipeline(tiny, "StableDiffusionPipeline", negative_prompt=["church"] * 2)
    assert np.abs(made.astype(int) - wanted).max() <= 1
    other = negative_prompt.maker(tiny, negative_prompt.Config("a dog"), "church")
    assert (other.sample(SHOTS, SAMPLER) != made).any()


def test_without_anything_to_steer_from_it_is_plain_sampling(tiny: Diffusion) -> None:
    maker = negative_prompt.maker(tiny, negative_prompt.Config(), "")
    gap = maker.sample(SHOTS, SAMPLER).astype(int) - tiny.sample(SHOTS, SAMPLER)
    assert np.abs(gap).max() <= 1


@pytest.mark.parametrize("warmup", [0, 2])
def test_sld_is_that_of_the_published_pipeline(tiny: Diffusion, warmup: int) -> None:
    config = sld.Config(
        negative="church",
        sld_scale=50.0,
        sld_warmup=warmup / 4,
        sld_threshold=0.5,
        sld_momentum=0.5,
    )
    made = sld.maker(tiny, config, "unused").sample(SHOTS, SAMPLER)
    wanted = by_pipeline(
        tiny,
        "StableDiffusionPipelineSafe",
        sld_guidance_scale=50.0,
        sld_warmup_steps=warmup,
        sld_threshold=0.5,
        sld_momentum_scale=0.5,
        sld_mom_beta=0.4,
    )
    assert np.abs(made.astype(int) - wanted).max() <= 1
    assert (made != tiny.sample(SHOTS, SAMPLER)).any()


def test_sld_is_for_noise_predictions_of_stable_diffusion_1(tmp_path: Path) -> None:
    xl = Diffusion.load(str(tiny_sdxl(tmp_path / "xl")))
    with pytest.raises(UserError, match="StableDiffusionXLPipeline"):
        sld.check_model(sld.Config(), xl)
