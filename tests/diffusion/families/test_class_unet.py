"""Folders of class-conditional U-Nets: what they are opened as, and what is refused of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.formats.generation import classes_of_model, kind_of
from erase.runtime.errors import UserError
from tests.tiny import CLASSES, tiny_class_unet


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_class_unet(tmp_path_factory.mktemp("models") / "unet", guidance=2.5, steps=20)


def test_a_folder_says_what_its_model_is_told(folder: Path) -> None:
    told = classes_of_model(str(folder))
    assert told is not None and told.names == CLASSES and told.null == 4
    assert told.sampling == {"guidance_scale": 2.5, "sampling_steps": 20}
    assert kind_of(str(folder)) == "class-conditional"


def test_pixels_are_what_is_denoised(folder: Path) -> None:
    model = Diffusion.load(str(folder))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    mean, std = model.encode(pixels).unbind(1)
    assert mean.shape == (3, 3, 16, 16) and not std.any()
    torch.testing.assert_close(mean[0, :, 0, 0], torch.tensor(pixels[0, 0, 0]) / 127.5 - 1)
    assert np.array_equal(model.decode(mean), pixels)
    assert model.autoencoder is None and model.size == 16


def test_the_samplers_take_no_image_for_more_than_pixels_are(folder: Path) -> None:
    model = Diffusion.load(str(folder))
    x, noise = torch.randn(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    sampler = model.family.sampler("dpm++")
    sampler.set_timesteps(15)
    a = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0)[sampler.timesteps[0]]
    unclipped = (x - (1 - a).sqrt() * noise) / a.sqrt()
    assert unclipped.abs().max() > 100
    sampler.step(noise, sampler.timesteps[0], x)
    torch.testing.assert_close(sampler.model_outputs[-1], unclipped.clamp(-1, 1))
    assert model.family.sampler("ddim").config.clip_sample
    model.pipeline.scheduler.register_to_config(clip_sample=False)
    assert not model.family.sampler("dpm++").config.thresholding


def test_velocity_is_told_by_the_scheduler(tmp_path: Path) -> None:
    model = Diffusion.load(str(tiny_class_unet(tmp_path / "v", "v_prediction")))
    x0, noise = torch.randn(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    beta = torch.linspace(1e-4, 0.02, 1000)
    a = torch.cumprod(1 - beta, 0)[300]
    v = a.sqrt() * noise - (1 - a).sqrt() * x0
    torch.testing.assert_close(model.target(x0, noise, torch.tensor([300])), v)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("classes.json", {"classes": ["church"]}, "names 1 classes and the null class 4, but"),
        ("classes.json", {"classes": ["a", "b", "a", "c"]}, "'a' of .* is blank or named twice"),
        ("classes.json", {"classes": "church"}, "no list of names as 'classes'"),
        ("classes.json", {"null": 2}, "names 4 classes and the null class 2, but"),
        ("classes.json", {"null": "none"}, "a 'null' that is no label"),
        ("classes.json", {"guidence": 3}, r"key 'guidence'\. Did you mean 'guidance'\?"),
        ("classes.json", {"steps": 0}, "has the steps 0: give a number >= 1"),
        ("unet/config.json", {"num_class_embeds": None}, "is not told labels"),
        ("unet/config.json", {"in_channels": 1}, "has 1 input and 3 output channels"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predicts 'sample'"),
    ],
)
def test_a_folder_that_does_not_fit_is_one_sentence(
    folder: Path, file: str, change: dict[str, Any], message: str
) -> None:
    kept = (folder / file).read_text()
    (folder / file).write_text(json.dumps({**json.loads(kept), **change}))
    try:
        with pytest.raises(UserError, match=message):
            Diffusion.load(str(folder))
    finally:
        (folder / file).write_text(kept)
