"""Configurations read off shapes, against SD 1.4's published one."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor

from erase.formats.folder import canonical, networks, skeleton
from erase.formats.original.config import infer
from erase.formats.original.keys import (
    UNET,
    VAE,
    is_attention_matrix,
    rename,
    unet_table,
    vae_table,
)
from erase.formats.original.layout import to_original
from erase.runtime.errors import UserError
from tests.published import MODELS, write_configs

TEXT = "cond_stage_model.transformer."
WIDTHS = {"unet": (320, 640, 1280, 1280), "vae": (128, 256, 512, 512)}


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """The names and shapes of a file of SD 1.4, without values."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with init_empty_weights():
        unet = UNet2DConditionModel(cross_attention_dim=768)
        vae = AutoencoderKL(
            block_out_channels=WIDTHS["vae"],
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        )
        text = CLIPTextModel(
            CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
        )
    state: dict[str, Tensor] = {}
    for prefix, network, table in (
        (UNET, unet, unet_table(unet.config)),
        (VAE, vae, vae_table(vae.config)),
    ):
        for name, value in network.state_dict().items():
            theirs = f"{prefix}{rename(name, table)}"
            linear = prefix == VAE and is_attention_matrix(theirs)
            state[theirs] = value[..., None, None] if linear else value
    for name, value in text.state_dict().items():
        state[f"{TEXT}text_model.{name.removeprefix('text_model.')}"] = value
    return state


def test_the_published_sizes_give_the_published_config(published: dict[str, Tensor]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        files = infer(published, "x")
    unet, vae, text = (files[f"{c}/config.json"] for c in ("unet", "vae", "text_encoder"))
    assert unet["block_out_channels"] == list(WIDTHS["unet"])
    assert unet["down_block_types"] == ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
    assert unet["up_block_types"] == ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
    expected = {
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "in_channels": 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "out_channels": 4,
        "sample_size": 64,
        "use_linear_projection": False,
    }
    assert {k: unet[k] for k in expected} == expected
    assert (vae["block_out_channels"], vae["latent_channels"]) == (list(WIDTHS["vae"]), 4)
    assert (vae["layers_per_block"], vae["sample_size"], vae["scaling_factor"]) == (2, 512, 0.18215)
    assert (text["hidden_size"], text["num_attention_heads"]) == (768, 12)
    assert (text["intermediate_size"], text["num_hidden_layers"]) == (3072, 12)
    assert (text["hidden_act"], text["max_position_embeddings"]) == ("quick_gelu", 77)


def test_an_unusual_size_is_guessed_and_says_so(published: dict[str, Tensor]) -> None:
    name = f"{TEXT}text_model.embeddings.token_embedding.weight"
    with pytest.warns(UserWarning, match="x has an unusual size"):
        files = infer({**published, name: torch.empty(49408, 640, device="meta")}, "x")
    assert files["text_encoder/config.json"]["num_attention_heads"] == 10


@pytest.mark.parametrize(
    "lost", ["model.diffusion_model.", "first_stage_model.", "cond_stage_model."]
)
def test_parts_of_a_model_are_refused(published: dict[str, Tensor], lost: str) -> None:
    rest = {k: v for k, v in published.items() if not k.startswith(lost)}
    with pytest.raises(UserError, match="x is not a complete Stable Diffusion 1"):
        infer(rest, "x")


def test_another_vocabulary_is_refused(published: dict[str, Tensor]) -> None:
    name = f"{TEXT}text_model.embeddings.token_embedding.weight"
    with pytest.raises(UserError, match="a vocabulary of 1000"):
        infer({**published, name: torch.empty(1000, 768, device="meta")}, "x")


@pytest.mark.parametrize("kind", MODELS)
def test_the_other_published_models_are_told_from_their_shapes(kind: str, tmp_path: Path) -> None:
    """Names and shapes of a whole file, made by ``to_original`` without values, and back."""
    folder = write_configs(kind, tmp_path)
    state: dict[str, Tensor] = {}
    for component in networks(folder):
        network = skeleton(folder, component).to("meta")
        own = network.state_dict()
        named = {canonical(component, name): value for name, value in own.items()}
        state |= to_original(folder, component, network, named)
    if kind == "2":  # the file has the block that is not used, and OpenCLIP's own projection
        start = "cond_stage_model.model.transformer.resblocks."
        last = {n: v for n, v in state.items() if n.startswith(f"{start}22.")}
        state |= {n.replace(f"{start}22.", f"{start}23."): v for n, v in last.items()}
        state["cond_stage_model.model.text_projection"] = torch.empty(1024, 1024, device="meta")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = infer(state, "x", "v_prediction" if kind == "2" else None)
    if kind == "XL":  # community models that predict the velocity carry empty marks
        marks = {name: torch.empty(0) for name in ("v_pred", "ztsnr")}
        marked = infer({**state, **marks}, "x")["scheduler/scheduler_config.json"]
        assert marked["prediction_type"] == "v_prediction" and marked["rescale_betas_zero_snr"]
    for component, config in MODELS[kind].items():
        file = "scheduler_config.json" if component == "scheduler" else "config.json"
        ours = found[f"{component}/{file}"]
        expected = {k: v for k, v in config.items() if not k.endswith("_token_id")}
        if component == "scheduler":
            expected.pop("_class_name")  # any sampler will do
        if kind == "2" and component == "text_encoder":
            expected.pop("projection_dim")  # Stable Diffusion 2 does not project
        assert {k: ours.get(k) for k in expected} == expected, component


def test_what_a_refiner_is_not(published: dict[str, Tensor]) -> None:
    refiner = {k: v for k, v in published.items() if not k.startswith("cond_stage")}
    refiner["conditioner.embedders.0.model.ln_final.bias"] = torch.empty(1280)
    with pytest.raises(UserError, match="not a complete Stable Diffusion 1, 2 or XL model"):
        infer(refiner, "x")
