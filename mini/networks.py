"""The networks of the miniature Stable Diffusion and of its judges, untrained.

The generator consists of the classes of Stable Diffusion 1.x at a small size, so that whatever
treats it treats a full-size checkpoint the same way.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from erase.formats.original.tokenizer import END, START

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel


WIDTH = 64
"""Width of the text encoder's hidden states."""


def build_text_encoder() -> CLIPTextModel:
    """CLIP's text tower with two layers of width 64."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=WIDTH,
            bos_token_id=START,
            eos_token_id=END,
            pad_token_id=END,
        )
    )


def build_vae() -> AutoencoderKL:
    """Stable Diffusion's autoencoder, 64 px pictures to 4 x 16 x 16 latents."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 48, 96),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
    )


def build_unet() -> UNet2DConditionModel:
    """Stable Diffusion's denoiser, 5.5 M weights, cross-attention at 8 x 8 and 4 x 4."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(64, 96, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.x's noise schedule."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="epsilon",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def build_judge(classes: int) -> nn.Module:
    """torchvision's smallest ShuffleNet, opened later as ``torchvision:shufflenet_v2_x0_5@F``."""
    import torchvision

    model: nn.Module = torchvision.models.get_model("shufflenet_v2_x0_5", num_classes=classes)
    return model


CLIP_CONFIG: dict[str, dict[str, Any]] = {
    "model_cfg": {
        "embed_dim": 64,
        "quick_gelu": False,
        "vision_cfg": {
            "image_size": 64,
            "layers": 3,
            "width": 96,
            "head_width": 24,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 4,
            "layers": 2,
        },
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
"""Configuration of the tiny open_clip model, in the format of ``open_clip_config.json``."""


def build_clip() -> nn.Module:
    """A tiny CLIP of open_clip's own class."""
    import open_clip

    model: nn.Module = open_clip.CLIP(**CLIP_CONFIG["model_cfg"])
    return model


def save_module(module: nn.Module, file: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a module's weights as fp16 safetensors (integer buffers keep their type)."""
    from safetensors.torch import save_file

    tensors = {
        k: (v.half() if v.is_floating_point() else v).contiguous().clone()
        for k, v in module.state_dict().items()
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, metadata)


def seeded(*key: int) -> torch.Generator:
    """A generator whose stream depends on every number of ``key``."""
    import numpy as np

    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) & (2**63 - 1))
