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


OPEN_CLIP: dict[str, Any] = {**TEXT, "hidden_act": "gelu", "num_hidden_layers": 3}
"""As in Stable Diffusion 2."""

SECOND: dict[str, Any] = {
    **OPEN_CLIP,
    "hidden_size": 48,
    "intermediate_size": 96,
    "projection_dim": 48,
}
"""SDXL's second encoder, which also projects; told from the first by its width."""

XL_UNET: dict[str, Any] = {
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": 32 + 48,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 48,
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
    return _write(folder, TEXT, {**UNET, **unet}, _scheduler(prediction_type), dtype, seed)


def tiny_sd2(folder: Path, seed: int = 0) -> Path:
    """Stable Diffusion 2: v-prediction, OpenCLIP's text encoder, heads of one width."""
    unet = {**UNET, "attention_head_dim": (2, 4), "use_linear_projection": True}
    return _write(folder, OPEN_CLIP, unet, _scheduler("v_prediction"), seed=seed)


def tiny_sdxl(folder: Path, seed: int = 0, **unet: Any) -> Path:
    """SDXL: two text encoders, added conditions, deeper transformers, an Euler sampler; ``unet``
    changes the denoiser's configuration."""
    from diffusers import EulerDiscreteScheduler

    scheduler = EulerDiscreteScheduler.from_config(
        _scheduler("epsilon").config, timestep_spacing="leading"
    )
    return _write(folder, TEXT, {**UNET, **XL_UNET, **unet}, scheduler, seed=seed, second=SECOND)


def _scheduler(prediction_type: str) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _write(
    folder: Path,
    text: dict[str, Any],
    unet: dict[str, Any],
    scheduler: Any,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    second: dict[str, Any] | None = None,
) -> Path:
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from erase.formats.original.tokenizer import build_tokenizer
    from erase.formats.pipeline import quiet

    vocabularies = {"tokenizer": "!" if text is OPEN_CLIP else "<|endoftext|>"}
    places = {name: folder.with_name(f"{folder.name}.{name}") for name in ("tokenizer", "second")}
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        parts: dict[str, Any] = {
            "vae": diffusers.AutoencoderKL(**VAE),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**text)),
            "tokenizer": build_tokenizer(places["tokenizer"], vocabularies["tokenizer"]),
            "unet": diffusers.UNet2DConditionModel(**unet),
            "scheduler": scheduler,
        }
        if second:
            parts["text_encoder_2"] = CLIPTextModelWithProjection(CLIPTextConfig(**second))
            parts["tokenizer_2"] = build_tokenizer(places["second"], "!")
            pipeline = diffusers.StableDiffusionXLPipeline(**parts, add_watermarker=False)
        else:
            pipeline = diffusers.StableDiffusionPipeline(
                **parts,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        pipeline.to(dtype=dtype).save_pretrained(folder)
    for name, place in (("tokenizer", "tokenizer"), ("tokenizer_2", "second")):
        if places[place].exists():
            shutil.rmtree(folder / name)
            places[place].rename(folder / name)
    # As in every published folder; transformers from 5.6 on leaves the prefix out.
    for name in ("text_encoder", "text_encoder_2") if second else ("text_encoder",):
        file = folder / name / "model.safetensors"
        bare = {k.removeprefix("text_model."): v for k, v in load_file(file).items()}
        named = {k if k.startswith("text_proj") else f"text_model.{k}": v for k, v in bare.items()}
        save_file(named, file, {"format": "pt"})
    return folder


def tiny_single_file(folder: Path, file: Path) -> Path:
    """Writes a pipeline folder as one file in the original key layout."""
    from erase.formats.single_file import export_single_file

    export_single_file(folder, file)
    return file


def import_single_file(
    file: Path, folder: Path, config: Path | None = None, prediction: str | None = None
) -> None:
    """Writes a file in the original key layout as a pipeline folder."""
    from erase.formats.base import Base
    from erase.formats.diffusers_folder import unpack

    unpack(Base(str(file), file, config, prediction), folder)


def tensor(value: Any) -> torch.Tensor:
    """A batch's tensor; of embedded prompts, what cross-attention reads."""
    found: torch.Tensor = getattr(value, "hidden", value)
    return found


CLASSES = ("church", "truck", "radio", "owl")
CLASS_UNET: dict[str, Any] = {
    "sample_size": 16,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}
DIT: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "sample_size": 8,
    "patch_size": 2,
    "num_embeds_ada_norm": 1000,
}


def tiny_class_unet(
    folder: Path, prediction_type: str = "epsilon", seed: int = 0, **told: Any
) -> Path:
    """Writes a class-conditional U-Net of 16 px images, with ``classes.json`` changed by
    ``told``."""
    import json

    from diffusers import DDPMScheduler, UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DModel(**CLASS_UNET, num_class_embeds=len(CLASSES) + 1)
        # Untrained labels hardly tell: louder, so that each makes images of its own.
        unet.class_embedding.weight.data.mul_(5)
    unet.save_pretrained(folder / "unet")
    DDPMScheduler(prediction_type=prediction_type).save_pretrained(folder / "scheduler")
    classes = {"classes": list(CLASSES), "null": len(CLASSES), **told}
    (folder / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    return folder


def tiny_dit(folder: Path, seed: int = 0) -> Path:
    """Writes a DiT pipeline of 16 px images with a thousand classes and predicted variances."""
    from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer, vae = DiTTransformer2DModel(**DIT), AutoencoderKL(**VAE)
        for block in transformer.transformer_blocks:
            block.norm1.emb.class_embedder.embedding_table.weight.data.mul_(5)
    names = dict(enumerate([f"{name}, {name} again" for name in CLASSES]))
    names |= {i: f"thing {i}" for i in range(len(CLASSES), 998)} | {998: "crane", 999: "crane"}
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False)
    pipeline = DiTPipeline(transformer, vae, scheduler)
    pipeline.register_to_config(id2label=names)
    pipeline.save_pretrained(folder)
    return folder
