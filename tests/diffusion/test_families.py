"""Families are found by their files, and told by the class of a model's pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from erase.diffusion.families import family_of
from erase.diffusion.families.sd import StableDiffusion
from erase.diffusion.families.sdxl import StableDiffusionXL
from erase.diffusion.model import Diffusion
from erase.formats.layouts import layouts
from erase.runtime.errors import UserError
from tests.dropped_in import copy_with, run
from tests.tiny import tiny_sd, tiny_sdxl

NEW = '''"""A family whose pipeline guides with its own attention, which is left out here."""

from dataclasses import dataclass, replace
from typing import ClassVar

from erase.diffusion.families.sd import StableDiffusion
from erase.formats.layouts import Layout


@dataclass(frozen=True)
class Guided(StableDiffusion):
    layout: ClassVar[Layout] = replace(
        StableDiffusion.layout, pipeline="StableDiffusionSAGPipeline", generation=lambda _: "SAG"
    )

    def prompts(self, c, empty):
        return {**super().prompts(c, empty), "sag_scale": 0.0}


FAMILY = Guided
'''


def test_each_family_states_its_pipeline() -> None:
    stable = {"StableDiffusionPipeline", "StableDiffusionXLPipeline"}
    assert set(layouts()) == stable | {"DDPMPipeline", "DiTPipeline"}
    assert layouts()["StableDiffusionXLPipeline"].tokenizers == ("tokenizer", "tokenizer_2")
    for layout in layouts().values():
        assert layout.denoiser in layout.networks


def test_a_family_is_told_by_the_pipeline(tiny: Diffusion, tmp_path: Path) -> None:
    assert type(family_of(tiny.pipeline)) is StableDiffusion
    other = Diffusion.load(str(tiny_sdxl(tmp_path / "xl")))
    assert type(other.family) is StableDiffusionXL
    # Sizes and pooled text fill the layer that embeds them, of the meta conditioning too.
    c, blank = other.embed(["a church"] * 2), other.family.blank(other.denoiser, 2)
    assert {n: v.shape for n, v in c.added.items()} == {n: v.shape for n, v in blank.added.items()}
    assert c.hidden.shape == blank.hidden.shape and blank.hidden.is_meta


def test_times_are_drawn_uniformly(tiny: Diffusion) -> None:
    drawn = tiny.times((2, 4000), torch.Generator().manual_seed(0))
    again = torch.randint(1000, (2, 4000), generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again) and tiny.timesteps == 1000


def test_a_new_family_is_one_file(tmp_path: Path) -> None:
    model = tiny_sd(tmp_path / "model")
    index = model / "model_index.json"
    named = {**json.loads(index.read_text()), "_class_name": "StableDiffusionSAGPipeline"}
    index.write_text(json.dumps(named))
    with pytest.raises(UserError, match="supported are .*StableDiffusionPipeline"):
        Diffusion.load(str(model))
    folder = copy_with(tmp_path, "diffusion/families/guided.py", NEW)
    asked = ["run", "--model", str(model), "--concept", "a church", "--anchor", "a truck"]
    small = "--forget-images 2 --retain-images 2 --sampling-steps 2 --steps 1 --batch-size 2"
    sets = [f"--eval-{n}=1" for n in ("forget", "retain", "neighbours", "general", "empty")]
    asked += ["--recipe", "salun-sd", "--out", str(tmp_path / "run"), *small.split(), *sets]
    said = run(folder, ["list"], [*asked, "--dry-run"], asked)
    assert "salun" in said
    out = tmp_path / "run" / "model"
    assert json.loads((out / "model_index.json").read_text())["_class_name"] == named["_class_name"]
    file = "unet/diffusion_pytorch_model.safetensors"
    before, after = load_file(model / file), load_file(out / file)
    assert any(not torch.equal(before[name], after[name]) for name in before)
