"""Samplers follow the model's noise schedule, whatever its own scheduler leaves to defaults."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from erase.diffusion.samplers import check_sampler, ddim, make_sampler, training_schedule
from erase.images.request import SAMPLERS
from erase.runtime.errors import UserError


def config_of(name: str, **said: Any) -> dict[str, Any]:
    """As a pipeline has it whose file says nothing but this."""
    return dict(getattr(diffusers, name).from_config(said).config) | {"_class_name": name}


@pytest.mark.parametrize("name", ["LCMScheduler", "TCDScheduler"])
def test_defaults_of_the_models_own_scheduler_are_kept(name: str) -> None:
    """Both classes leave clipping off and have Stable Diffusion's betas, unlike the samplers."""
    config = config_of(name)
    made = ddim(config)
    assert made.config.clip_sample is False
    assert made.config.set_alpha_to_one is True
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    for one in (training_schedule(config), *(make_sampler(n, config) for n in SAMPLERS)):
        torch.testing.assert_close(one.alphas_cumprod, torch.cumprod(1 - betas, 0))


def test_the_last_step_of_plms_is_kept() -> None:
    """PNDM ends at ᾱ_0 and DDIM at 1 where the file says nothing."""
    config = config_of("PNDMScheduler", beta_schedule="scaled_linear", skip_prk_steps=True)
    made = ddim(config)
    assert made.config.set_alpha_to_one is False
    assert made.final_alpha_cumprod == made.alphas_cumprod[0] < 1


def test_what_the_pipeline_corrects_is_kept() -> None:
    """diffusers sets these at loading, while the config still lists them as defaults."""
    config = config_of("DDIMScheduler") | {"steps_offset": 1, "clip_sample": False}
    made = ddim(config)
    assert (made.config.steps_offset, made.config.clip_sample) == (1, False)
    assert make_sampler("dpm++", config).config.steps_offset == 1


def test_a_sampler_draws_no_noise_of_its_own() -> None:
    config = config_of("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++")
    assert make_sampler("dpm++", config).config.algorithm_type == "dpmsolver++"


def test_samplers_that_leave_the_noise_schedule_are_refused() -> None:
    plain = config_of("DDPMScheduler", beta_schedule="scaled_linear")
    for name in SAMPLERS:
        check_sampler(name, plain)
    zero = plain | {"rescale_betas_zero_snr": True}
    assert training_schedule(zero).alphas_cumprod[-1] == 0
    check_sampler("ddim", zero)
    check_sampler("dpm++", zero)
    with pytest.raises(UserError, match="lms can't follow .*zero terminal SNR.*ddim or dpm"):
        check_sampler("lms", zero)
    with pytest.raises(UserError, match="can't follow the model's noise schedule: no sampler"):
        check_sampler("ddim", config_of("DDPMScheduler", beta_schedule="sigmoid"))
