"""Tiny real Stable Diffusion pipelines with random weights, seeded: the real classes and layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

UNET: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
    "norm_num_groups": 16,
}
VAE: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "norm_num_groups": 8,
    "sample_size": 16,
}
TEXT: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "projection_dim": 32,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}


def tiny_sd(
    folder: Path,
    prediction_type: str = "epsilon",
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    **unet: Any,
) -> Path:
    """Writes a pipeline of 16 px images in the hub's folder layout, 2 M weights.

    Args:
        folder: new.
        prediction_type: ``epsilon`` or ``v_prediction``.
        dtype: of the stored weights.
        seed: of the weights.
        **unet: changes to the denoiser's configuration.
    """
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

    from erase.checkpoint import quiet
    from erase.mini.models import build_tokenizer

    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        pipeline = StableDiffusionPipeline(
            vae=AutoencoderKL(**VAE),
            text_encoder=CLIPTextModel(CLIPTextConfig(**TEXT)),
            tokenizer=build_tokenizer(folder.with_name(f"{folder.name}.tokenizer")),
            unet=UNet2DConditionModel(**{**UNET, **unet}),
            scheduler=DDIMScheduler(
                beta_start=0.00085,
                beta_end=0.012,
                beta_schedule="scaled_linear",
                prediction_type=prediction_type,
                clip_sample=False,
                set_alpha_to_one=False,
                steps_offset=1,
            ),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).to(dtype=dtype)
        pipeline.save_pretrained(folder)
    shutil.rmtree(folder / "tokenizer")
    folder.with_name(f"{folder.name}.tokenizer").rename(folder / "tokenizer")
    # As in every published folder; transformers from 5.6 on leaves the prefix out.
    file = folder / "text_encoder" / "model.safetensors"
    named = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in load_file(file).items()}
    save_file(named, file, {"format": "pt"})
    return folder


def tiny_single_file(folder: Path, file: Path) -> Path:
    """Writes a pipeline folder as one file in the original key layout."""
    from erase.single_file import export_single_file

    export_single_file(folder, file)
    return file
