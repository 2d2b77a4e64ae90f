"""Models that would be trained on another function than they are sampled from are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest

from erase.cli.main import main
from erase.diffusion.model import Diffusion
from erase.formats.layouts import layouts
from erase.formats.supported import refuse_unsupported
from erase.runtime.errors import UserError
from tests.tiny import UNET, XL_UNET, tiny_sd

SCHEDULER = diffusers.PNDMScheduler(beta_schedule="scaled_linear").config


def test_a_distilled_denoiser_is_refused_and_the_dry_run_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An LCM is told its guidance scale, which no training here would tell it."""
    folder = tiny_sd(tmp_path / "lcm", time_cond_proj_dim=16)
    with pytest.raises(UserError, match="guidance distilled.*give the model"):
        Diffusion.load(str(folder))
    asked = ["--model", str(folder), "--concept", "a church", "--anchor", "a truck"]
    for more in (["--dry-run"], []):
        with pytest.raises(SystemExit) as stopped:
            main(["run", *asked, "--out", str(tmp_path / "run"), *more])
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert stopped.value.code == 2 and "guidance distilled" in said and len(said) <= 300
    assert not (tmp_path / "run" / "images").exists()


@pytest.mark.parametrize(
    "odd",
    [
        {"class_embed_type": "timestep"},
        {"num_class_embeds": 5},
        {"addition_embed_type": "text"},
        {**XL_UNET},
        {"encoder_hid_dim": 48},
        {"encoder_hid_dim": 48, "encoder_hid_dim_type": "text_proj"},
        {"attention_type": "gated"},
        {"dual_cross_attention": True},
        {"only_cross_attention": (True, False)},
        {"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"},
        {"sample_size": (8, 16)},
    ],
)
def test_inputs_and_layers_that_training_would_leave_out_are_refused(odd: dict[str, Any]) -> None:
    config = {**UNET, "mid_block_type": "UNetMidBlock2DCrossAttn"}
    refuse_unsupported(config, SCHEDULER, "m", added=None)
    with pytest.raises(UserError, match="The denoiser of m has .* not supported"):
        refuse_unsupported({**config, **odd}, SCHEDULER, "m", added=None)


@pytest.mark.parametrize(
    ("name", "odd", "message"),
    [
        ("unet", {"time_cond_proj_dim": 256}, "distilled"),
        ("scheduler", {"prediction_type": "sample"}, "predicts 'sample'"),
        ("vae", {"latents_mean": [0.0] * 4}, "shifts its latents"),
    ],
)
def test_what_is_refused_is_refused_by_its_small_files(
    name: str, odd: dict[str, Any], message: str, tiny_folder: Path
) -> None:
    """Before gigabytes are fetched; one that leaves its middle block to diffusers is fine."""
    check = layouts()["StableDiffusionPipeline"].check

    def read(file: str) -> dict[str, Any]:
        told = json.loads((tiny_folder / file).read_text())
        told.pop("mid_block_type", None)
        return {**told, **(odd if file.startswith(name) else {})}

    check(lambda file: json.loads((tiny_folder / file).read_text()), "m")
    with pytest.raises(UserError, match=message):
        check(read, "m")


def test_two_text_encoders_need_their_added_conditions() -> None:
    refuse_unsupported({**UNET, **XL_UNET}, SCHEDULER, "m", added="text_time")
    with pytest.raises(UserError, match="addition_embed_type = None"):
        refuse_unsupported(UNET, SCHEDULER, "m", added="text_time")


def test_what_has_no_betas_or_predicts_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for other in ("EDMEulerScheduler", "FlowMatchEulerDiscreteScheduler"):
        config = {**getattr(diffusers, other)().config, "_class_name": other}
        with pytest.raises(UserError, match=f"{other}.* has no noise schedule"):
            refuse_unsupported(UNET, config, "m", added=None)
    folder = tiny_sd(tmp_path / "sample", "sample")
    for more in (["--dry-run"], []):
        with pytest.raises(SystemExit):
            main(
                ["run", "--model", str(folder), "--concept", "a [cat]", "--anchor", "a dog", *more]
            )
        assert "predicts 'sample', which is not supported" in capsys.readouterr().err


def test_a_zero_terminal_snr_wants_a_sampler_that_knows_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The recipes of SalUn's paper sample with LMS, which never gets to pure noise."""
    folder = tiny_sd(tmp_path / "zero", "v_prediction")
    file = folder / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "rescale_betas_zero_snr": True}))
    asked = ["--model", str(folder), "--concept", "nudity", "--out", str(tmp_path / "run")]
    look = ["generate", "--model", str(folder), "--prompt", "a cat", "--sampler", "lms"]
    for argv in (["run", *asked, "--dry-run"], ["run", *asked], look):
        with pytest.raises(SystemExit) as stopped:
            main(argv)
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert stopped.value.code == 2
        assert "lms can't follow" in said and "use --sampler ddim or dpm++" in said
    assert not (tmp_path / "run" / "images").exists()
