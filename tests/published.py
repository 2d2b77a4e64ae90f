"""The published models' configurations, without weights: what their ``config.json`` files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
_CLIP = {"model_type": "clip_text_model", "vocab_size": 49408, "max_position_embeddings": 77}
_ENDS = {"bos_token_id": 0, "eos_token_id": 2}
CLIP_L: dict[str, Any] = {
    **_CLIP,
    **_ENDS,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "projection_dim": 768,
}
CLIP_H: dict[str, Any] = {
    **CLIP_L,
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "projection_dim": 512,
}
CLIP_G: dict[str, Any] = {
    **CLIP_L,
    "hidden_act": "gelu",
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_attention_heads": 20,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
}
SD2_UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "attention_head_dim": [5, 10, 20, 20],
    "block_out_channels": [320, 640, 1280, 1280],
    "cross_attention_dim": 1024,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "in_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 96,
    "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
    "use_linear_projection": True,
}
SDXL_UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel",
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "attention_head_dim": [5, 10, 20],
    "block_out_channels": [320, 640, 1280],
    "cross_attention_dim": 2048,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "in_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 4,
    "projection_class_embeddings_input_dim": 2816,
    "sample_size": 128,
    "transformer_layers_per_block": [1, 2, 10],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "use_linear_projection": True,
}
SCHEDULER: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
MODELS: dict[str, dict[str, Any]] = {
    "2": {
        "unet": SD2_UNET,
        "vae": {**VAE, "sample_size": 768, "scaling_factor": 0.18215},
        "text_encoder": CLIP_H,
        "scheduler": {**SCHEDULER, "prediction_type": "v_prediction"},
    },
    "XL": {
        "unet": SDXL_UNET,
        "vae": {**VAE, "sample_size": 1024, "scaling_factor": 0.13025},
        "text_encoder": CLIP_L,
        "text_encoder_2": CLIP_G,
        "scheduler": {
            **SCHEDULER,
            "_class_name": "EulerDiscreteScheduler",
            "prediction_type": "epsilon",
            "timestep_spacing": "leading",
        },
    },
}


def write_configs(kind: str, folder: Path) -> Path:
    """A pipeline folder of the kind that lacks nothing but weights."""
    from erase.formats.original.tokenizer import build_tokenizer

    parts, double = MODELS[kind], kind == "XL"
    index: dict[str, Any] = {
        "_class_name": f"StableDiffusion{'XL' if double else ''}Pipeline",
        "scheduler": ["diffusers", parts["scheduler"]["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    build_tokenizer(folder / "tokenizer", "<|endoftext|>" if double else "!")
    if double:
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        index["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
        index["force_zeros_for_empty_prompt"] = True
        build_tokenizer(folder / "tokenizer_2", "!")
    for name, config in parts.items():
        (folder / name).mkdir()
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        (folder / name / file).write_text(json.dumps(config))
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
