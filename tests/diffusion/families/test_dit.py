"""DiT behind the boundary, against diffusers' own pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.formats.generation import classes_of_model
from erase.images.request import Sampler, Shot
from erase.runtime.errors import UserError
from tests.tiny import tiny_dit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dit(tmp_path_factory.mktemp("models") / "dit")


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_images_are_those_of_the_stock_pipeline(folder: Path, guidance: float) -> None:
    from diffusers import DiTPipeline

    stock = DiTPipeline.from_pretrained(folder)
    stock.set_progress_bar_config(disable=True)
    g = torch.Generator().manual_seed(7)
    how = {"guidance_scale": guidance, "num_inference_steps": 3, "output_type": "np"}
    theirs = stock(stock.get_label_ids(["truck"]), generator=g, **how).images
    ours = Diffusion.load(str(folder)).sample([Shot("truck", seed=7)], Sampler("ddim", 3, guidance))
    assert np.abs(ours.astype(int) - (theirs * 255).round()).max() <= 1


def test_labels_are_called_by_their_first_name(folder: Path) -> None:
    told = classes_of_model(str(folder))
    assert told is not None and told.null == 1000 == len(told.names)
    assert told.names[:2] == ("church", "truck")
    assert told.names[-2:] == ("crane (998)", "crane (999)")  # which the labels call alike


def test_an_older_folder_calls_its_network_otherwise(folder: Path) -> None:
    file = folder / "model_index.json"
    kept = file.read_text()
    old = {**json.loads(kept), "transformer": ["diffusers", "Transformer2DModel"]}
    file.write_text(json.dumps(old))
    try:
        assert Diffusion.load(str(folder)).channels == 4
        file.write_text(json.dumps({**old, "id2label": {"0": "church"}}))
        with pytest.raises(UserError, match="does not name the model's 1000 classes"):
            Diffusion.load(str(folder))
    finally:
        file.write_text(kept)


def test_what_the_network_says_of_variances_is_asked_for_by_no_sampler(folder: Path) -> None:
    model = Diffusion.load(str(folder))
    model.pipeline.scheduler.register_to_config(variance_type="learned_range")
    for name in ("ddim", "dpm++", "lms"):
        images = model.sample([Shot("owl", 1)], Sampler(name, 3, 2.0))
        assert images.shape == (1, 16, 16, 3)
    with pytest.raises(UserError, match="draws noise by variances"):
        model.family.check_sampling(3, None)
    with pytest.raises(UserError, match="would leave out the layers"):
        model.scoped("full-no-norms")
