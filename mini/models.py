"""The networks of the miniature Stable Diffusion and of its judges, untrained.

The generator consists of the classes of Stable Diffusion 1.x at a small size, so that whatever
treats it treats a full-size checkpoint the same way.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

WIDTH = 64
"""Width of the text encoder's hidden states."""
START, END = 49406, 49407
FEATURES = 64
"""Dimensions of the feature network behind ``FID[mini]`` and ``KID[mini]``."""


def build_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """Writes CLIP's tokenizer, from the vocabulary that open_clip ships, and opens it.

    Only ``vocab.json`` and ``merges.txt`` are kept, as in Stable Diffusion 1.x's own folder.

    Args:
        folder: where it is written.
        pad: the token that fills up short prompts; ``!`` for OpenCLIP's text encoders, those of
            Stable Diffusion 2 and the second one of SDXL.
    """
    import open_clip
    from transformers import CLIPTokenizer

    bpe = open_clip.SimpleTokenizer()
    ids = dict(bpe.encoder)
    for name in [n for n, i in ids.items() if i in (START, END)]:
        del ids[name]
    ids |= {"<|startoftext|>": START, "<|endoftext|>": END}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in bpe.bpe_ranks)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    config = json.dumps(tokenizer_config(pad), indent=2)
    (folder / "tokenizer_config.json").write_text(config + "\n")
    return CLIPTokenizer.from_pretrained(folder)


def tokenizer_config(pad: str) -> dict[str, Any]:
    """``tokenizer_config.json`` of CLIP's tokenizer; ``pad`` as in ``build_tokenizer``."""
    return {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": pad,
        "unk_token": "<|endoftext|>",
    }


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


_STAGE = 6
"""Layers of a stage of ``FeatureNet``: twice convolution, normalisation, activation."""


class FeatureNet(nn.Module):
    """Plain convolutional network whose 64 last features define ``FID[mini]``.

    ``forward`` takes float pictures in [0, 1] of shape (B, 3, 64, 64) and returns (B, 64).
    """

    num_features = FEATURES

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (3, 24, 48, 64, FEATURES)
        layers: list[nn.Module] = []
        for i, o in itertools.pairwise(widths):
            layers += [nn.Conv2d(i, o, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(o)]
            layers += [nn.SiLU(), nn.Conv2d(o, o, 3, padding=1, bias=False), nn.BatchNorm2d(o)]
            layers += [nn.SiLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)[-1].mean((2, 3))

    def layers(self, x: Tensor) -> list[Tensor]:
        """The outputs of the four stages: (B, 24, 32, 32) to (B, 64, 4, 4)."""
        found = []
        x = x * 2 - 1
        for number, layer in enumerate(self.body, 1):
            x = layer(x)
            if number % _STAGE == 0:
                found.append(x)
        return found


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
