"""The configuration of a Stable Diffusion 1 file that carries none, read off its tensors' shapes.

What shapes can't tell is what the original code fixes: 32 groups per normalisation, 8 attention
heads, CLIP heads of 64, 512 px, SD 1's noise schedule (v1-inference.yaml). At the published sizes
that is certain; at others it is a guess, and a warning says so.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from erase.errors import UserError
from erase.sd_keys import TEXT, UNET, VAE

GROUPS, HEADS, TEXT_HEAD, SAMPLE = 32, 8, 64, 64
PUBLISHED = ([320, 640, 1280, 1280], [128, 256, 512, 512], 768)
"""Widths of SD 1's denoiser, autoencoder and text encoder."""
VOCABULARY = 49408
"""Of CLIP's tokenizer."""

SCHEDULER: dict[str, Any] = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
MODEL_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def infer(state: Mapping[str, Tensor], source: str) -> dict[str, dict[str, Any]]:
    """The JSON files of the pipeline that a file in the original layout holds.

    Args:
        state: all of the file's tensors.
        source: what the file is called in messages.

    Returns:
        Contents by path inside a diffusers folder.

    Raises:
        UserError: it is no Stable Diffusion 1.
    """
    try:
        unet, vae, text = (
            read(_part(state, prefix))
            for read, prefix in ((_unet, UNET), (_vae, VAE), (_text, TEXT))
        )
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{source} is no whole Stable Diffusion 1 model in the original layout (at {error}): "
            "give one with denoiser, autoencoder and CLIP text encoder, or a diffusers folder."
        ) from error
    widths = (unet["block_out_channels"], vae["block_out_channels"], text["hidden_size"])
    if widths != PUBLISHED:
        warnings.warn(
            f"{source} is of an unusual size and does not state its numbers of attention heads and "
            "normalisation groups, which are guessed; give FILE@FOLDER with the diffusers folder "
            "that does.",
            stacklevel=2,
        )
    return {
        "model_index.json": MODEL_INDEX,
        "scheduler/scheduler_config.json": SCHEDULER,
        "unet/config.json": unet,
        "vae/config.json": vae,
        "text_encoder/config.json": text,
    }


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, tuple[int, ...]]:
    return {
        k.removeprefix(prefix): tuple(v.shape) for k, v in state.items() if k.startswith(prefix)
    }


def _unet(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    first = shapes["input_blocks.0.0.weight"]
    widths: list[int] = []
    layers: list[int] = [0]
    crossed: list[bool] = []
    number = 1
    while f"input_blocks.{number}.0.in_layers.0.weight" in shapes or (
        f"input_blocks.{number}.0.op.weight" in shapes
    ):
        if f"input_blocks.{number}.0.op.weight" in shapes:
            layers.append(0)
        else:
            if not layers[-1]:
                widths.append(shapes[f"input_blocks.{number}.0.out_layers.3.weight"][0])
                crossed.append(f"input_blocks.{number}.1.proj_in.weight" in shapes)
            layers[-1] += 1
        number += 1
    if len(set(layers)) != 1:
        raise ValueError(f"{layers} layers per level")
    rising, output = [], 0
    for _ in widths:
        rising.append(f"output_blocks.{output}.1.proj_in.weight" in shapes)
        output += layers[0] + 1
    middle = "middle_block.1."
    return {
        "_class_name": "UNet2DConditionModel",
        "attention_head_dim": math.gcd(
            HEADS, *widths
        ),  # diffusers' historical name for the number of heads
        "block_out_channels": widths,
        "cross_attention_dim": shapes[f"{middle}transformer_blocks.0.attn2.to_k.weight"][1],
        "down_block_types": ["CrossAttnDownBlock2D" if c else "DownBlock2D" for c in crossed],
        "in_channels": first[1],
        "layers_per_block": layers[0],
        "norm_num_groups": math.gcd(GROUPS, *widths),
        "out_channels": shapes["out.2.weight"][0],
        "sample_size": SAMPLE,
        "up_block_types": ["CrossAttnUpBlock2D" if c else "UpBlock2D" for c in rising],
        "use_linear_projection": len(shapes[f"{middle}proj_in.weight"]) == 2,
    }


def _vae(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    widths: list[int] = []
    while (key := f"encoder.down.{len(widths)}.block.0.conv2.weight") in shapes:
        widths.append(shapes[key][0])
    layers = 0
    while f"encoder.down.0.block.{layers}.conv1.weight" in shapes:
        layers += 1
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": widths,
        "down_block_types": ["DownEncoderBlock2D"] * len(widths),
        "in_channels": shapes["encoder.conv_in.weight"][1],
        "latent_channels": shapes["post_quant_conv.weight"][1],
        "layers_per_block": layers,
        "norm_num_groups": math.gcd(GROUPS, *widths),
        "out_channels": shapes["decoder.conv_out.weight"][0],
        "sample_size": SAMPLE * 2 ** (len(widths) - 1),
        "scaling_factor": 0.18215,
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
    }


def _text(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    shapes = {k.removeprefix("text_model."): v for k, v in shapes.items()}
    vocabulary, width = shapes["embeddings.token_embedding.weight"]
    if vocabulary != VOCABULARY:
        raise ValueError(f"a vocabulary of {vocabulary}, CLIP's is {VOCABULARY}")
    layers = 0
    while f"encoder.layers.{layers}.mlp.fc1.weight" in shapes:
        layers += 1
    return {
        "architectures": ["CLIPTextModel"],
        "bos_token_id": VOCABULARY - 2,
        "eos_token_id": VOCABULARY - 1,
        "hidden_act": "quick_gelu",
        "hidden_size": width,
        "intermediate_size": shapes["encoder.layers.0.mlp.fc1.weight"][0],
        "max_position_embeddings": shapes["embeddings.position_embedding.weight"][0],
        "model_type": "clip_text_model",
        "num_attention_heads": width // math.gcd(TEXT_HEAD, width),
        "num_hidden_layers": layers,
        "pad_token_id": VOCABULARY - 1,
        "projection_dim": width,
        "vocab_size": vocabulary,
    }
