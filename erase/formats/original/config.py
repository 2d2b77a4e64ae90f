"""The configuration of a Stable Diffusion file that carries none, read off its tensors' shapes.

What shapes can't tell is what the original code fixes: 32 groups per normalisation, CLIP heads of
64, in the denoiser 8 attention heads (1) or heads of 64 (2 and XL), the noise schedule. At the
published sizes that is certain; at others it is a guess, and a warning says so. Whether a Stable
Diffusion 2 predicts the noise or the velocity has to be told.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from erase.formats.original.keys import UNET, VAE
from erase.formats.original.layout import KINDS, kind_of_state
from erase.formats.supported import check_denoiser
from erase.runtime.errors import UserError, reason
from erase.runtime.notes import Note

GROUPS, HEADS, HEAD = 32, 8, 64
VOCABULARY = 49408
"""Number of tokens that CLIP's tokenizer knows."""
_VAE_WIDTHS = [128, 256, 512, 512]
_VIT_H = (1024, 24)
"""Width and blocks of OpenCLIP's text tower that Stable Diffusion 2 takes its own from."""
V_MARK, ZERO_MARK = "v_pred", "ztsnr"
"""Empty tensors by which programs know a model that predicts the velocity, and one whose noise
schedule ends without any signal (zero terminal SNR)."""


@dataclass(frozen=True)
class Published:
    """What the published models of a kind have in common.

    Attributes:
        denoiser, text: widths.
        scaling: of the latents.
        sample: side of the latents.
    """

    denoiser: list[int]
    text: list[int]
    scaling: float = 0.18215
    sample: int = 64


PUBLISHED: Mapping[str, Published] = {
    "1": Published([320, 640, 1280, 1280], [768]),
    "2": Published([320, 640, 1280, 1280], [1024]),
    "XL": Published([320, 640, 1280], [768, 1280], 0.13025, 128),
}

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
_EULER = {
    **SCHEDULER,
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}
_PARTS: dict[str, Any] = {
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
MODEL_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    **_PARTS,
}
XL_INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionXLPipeline",
    "force_zeros_for_empty_prompt": True,
    **_PARTS,
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
}


def infer(
    state: Mapping[str, Tensor], source: str, prediction: str | None = None
) -> dict[str, dict[str, Any]]:
    """The JSON files of the pipeline that a file in the original layout holds.

    Args:
        state: all of the file's tensors.
        source: what the file is called in messages.
        prediction: ``epsilon`` or ``v_prediction``, where the user says so.

    Returns:
        Contents by path inside a diffusers folder.

    Raises:
        UserError: it is no Stable Diffusion, or does not say what it predicts.
    """
    kind = kind_of_state(state, source)
    known = PUBLISHED[kind]
    if prediction is None and V_MARK in state:
        prediction = "v_prediction"
    if kind == "2" and prediction is None:
        raise UserError(
            f"{source} is a Stable Diffusion 2 model and does not say what it predicts: give "
            f"{source}@v_prediction (the 768 px models) or {source}@epsilon (the 512 px ones)."
        )
    unet, vae, texts = _networks(state, kind, source)
    if kind == "2" and prediction == "v_prediction":
        unet["sample_size"] = 96
        vae["sample_size"] = 96 * 2 ** (len(vae["block_out_channels"]) - 1)
    check_denoiser(unet, vae, source, added=unet.get("addition_embed_type"))
    widths = [unet["block_out_channels"], vae["block_out_channels"]]
    if widths != [known.denoiser, _VAE_WIDTHS] or known.text != [
        text["hidden_size"] for text in texts.values()
    ]:
        warnings.warn(
            f"{source} has an unusual size and does not state its numbers of attention heads and "
            "normalisation groups, so they are guessed; to state them, give FILE@FOLDER with the "
            "model's diffusers folder.",
            Note,
            stacklevel=2,
        )
    found = {
        **_scheduling(kind, prediction or "epsilon", ends=ZERO_MARK in state),
        "unet/config.json": unet,
        "vae/config.json": vae,
    }
    from erase.formats.original.tokenizer import tokenizer_config

    for name, text in texts.items():
        found[f"{name}/config.json"] = text
        if KINDS[kind][name].open_clip:  # which fills up prompts with token 0
            place = name.replace("text_encoder", "tokenizer")
            found[f"{place}/tokenizer_config.json"] = tokenizer_config("!")
        elif kind == "XL":
            found["tokenizer/tokenizer_config.json"] = tokenizer_config("<|endoftext|>")
    return found


def _networks(
    state: Mapping[str, Tensor], kind: str, source: str
) -> tuple[dict[str, Any], dict[str, Any], dict[str, dict[str, Any]]]:
    """Configurations of denoiser, autoencoder and, by name, text encoders; see ``infer``."""
    try:
        unet = _unet(_part(state, UNET), kind)
        vae = _vae(_part(state, VAE), PUBLISHED[kind])
        texts = {
            name: (_open_clip if text.open_clip else _text)(_part(state, text.prefix), text.spare)
            for name, text in KINDS[kind].items()
        }
        if kind == "XL":
            added = unet["projection_class_embeddings_input_dim"]
            unet["addition_time_embed_dim"] = (
                added - texts["text_encoder_2"]["projection_dim"]
            ) // 6
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(
            f"{source} is not a complete Stable Diffusion {kind} model in the original layout (at "
            f"{reason(error)}): give one with denoiser, autoencoder and text encoders, or a "
            "diffusers folder."
        ) from error
    return unet, vae, texts


def _scheduling(kind: str, prediction: str, *, ends: bool) -> dict[str, dict[str, Any]]:
    """The pipeline's index and its scheduler.

    Args:
        kind: of Stable Diffusion.
        prediction: ``epsilon`` or ``v_prediction``.
        ends: whether the schedule ends without any signal, which of the two only Euler's knows.
    """
    scheduler = dict(_EULER if kind == "XL" or ends else SCHEDULER)
    if ends:
        scheduler |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return {
        "model_index.json": {
            **(XL_INDEX if kind == "XL" else MODEL_INDEX),
            "scheduler": ["diffusers", scheduler["_class_name"]],
        },
        "scheduler/scheduler_config.json": {**scheduler, "prediction_type": prediction},
    }


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, tuple[int, ...]]:
    return {
        k.removeprefix(prefix): tuple(v.shape) for k, v in state.items() if k.startswith(prefix)
    }


def _unet(shapes: Mapping[str, tuple[int, ...]], kind: str) -> dict[str, Any]:
    first = shapes["input_blocks.0.0.weight"]
    widths: list[int] = []
    layers: list[int] = [0]
    crossed: list[int] = []
    number = 1
    while f"input_blocks.{number}.0.in_layers.0.weight" in shapes or (
        f"input_blocks.{number}.0.op.weight" in shapes
    ):
        if f"input_blocks.{number}.0.op.weight" in shapes:
            layers.append(0)
        else:
            if not layers[-1]:
                widths.append(shapes[f"input_blocks.{number}.0.out_layers.3.weight"][0])
                crossed.append(_depth(shapes, f"input_blocks.{number}.1"))
            layers[-1] += 1
        number += 1
    if len(set(layers)) != 1:
        raise ValueError(f"{layers} layers per level")
    rising, output = [], 0
    for _ in widths:
        rising.append(f"output_blocks.{output}.1.proj_in.weight" in shapes)
        output += layers[0] + 1
    middle = "middle_block.1"
    config: dict[str, Any] = {
        "_class_name": "UNet2DConditionModel",
        # diffusers' historical name for the number of heads
        "attention_head_dim": math.gcd(HEADS, *widths)
        if kind == "1"
        else [width // math.gcd(HEAD, width) for width in widths],
        "block_out_channels": widths,
        "cross_attention_dim": shapes[f"{middle}.transformer_blocks.0.attn2.to_k.weight"][1],
        "down_block_types": ["CrossAttnDownBlock2D" if c else "DownBlock2D" for c in crossed],
        "in_channels": first[1],
        "layers_per_block": layers[0],
        "norm_num_groups": math.gcd(GROUPS, *widths),
        "out_channels": shapes["out.2.weight"][0],
        "sample_size": PUBLISHED[kind].sample,
        "up_block_types": ["CrossAttnUpBlock2D" if c else "UpBlock2D" for c in rising],
        "use_linear_projection": len(shapes[f"{middle}.proj_in.weight"]) == 2,
    }
    if kind == "XL":
        # A level without attention has no depth; the middle is as deep as the last level.
        config["transformer_layers_per_block"] = [c or 1 for c in crossed]
        if _depth(shapes, middle) != crossed[-1]:
            raise ValueError(f"{_depth(shapes, middle)} transformer layers in the middle")
        config["addition_embed_type"] = "text_time"
        config["projection_class_embeddings_input_dim"] = shapes["label_emb.0.0.weight"][1]
    return config


def _depth(shapes: Mapping[str, tuple[int, ...]], place: str) -> int:
    """How many transformer blocks an attention layer has; 0 where there is none."""
    names = (f"{place}.transformer_blocks.{i}.norm1.weight" for i in itertools.count())
    return sum(1 for _ in itertools.takewhile(lambda name: name in shapes, names))


def _vae(shapes: Mapping[str, tuple[int, ...]], known: Published) -> dict[str, Any]:
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
        "sample_size": known.sample * 2 ** (len(widths) - 1),
        "scaling_factor": known.scaling,
        "up_block_types": ["UpDecoderBlock2D"] * len(widths),
    }


def _text(shapes: Mapping[str, tuple[int, ...]], _: int) -> dict[str, Any]:
    shapes = {k.removeprefix("text_model."): v for k, v in shapes.items()}
    return _clip(
        shapes["embeddings.token_embedding.weight"],
        shapes["embeddings.position_embedding.weight"],
        [v for k, v in shapes.items() if k.endswith("mlp.fc1.weight")],
        "quick_gelu",
    )


def _open_clip(shapes: Mapping[str, tuple[int, ...]], spare: int) -> dict[str, Any]:
    blocks = [v for k, v in shapes.items() if k.endswith("mlp.c_fc.weight")]
    width = shapes["token_embedding.weight"][1]
    # Published files hold OpenCLIP's whole tower; converters leave out what is not used: the
    # projection, and the last of ViT-H's 24 blocks.
    whole = len(blocks) == _VIT_H[1] if width == _VIT_H[0] else "text_projection" in shapes
    found = _clip(
        shapes["token_embedding.weight"],
        shapes["positional_embedding"],
        blocks[: -spare or None] if whole else blocks,
        "gelu",
    )
    projection = shapes.get("text_projection", (found["projection_dim"],))[-1]
    return {**found, "projection_dim": projection, "pad_token_id": 0}


def _clip(
    tokens: tuple[int, ...],
    positions: tuple[int, ...],
    layers: list[tuple[int, ...]],
    act: str,
) -> dict[str, Any]:
    vocabulary, width = tokens
    if vocabulary != VOCABULARY:
        raise ValueError(f"a vocabulary of {vocabulary} where CLIP's is {VOCABULARY}")
    return {
        "architectures": ["CLIPTextModel"],
        "bos_token_id": VOCABULARY - 2,
        "eos_token_id": VOCABULARY - 1,
        "hidden_act": act,
        "hidden_size": width,
        "intermediate_size": layers[0][0],
        "max_position_embeddings": positions[0],
        "model_type": "clip_text_model",
        "num_attention_heads": width // math.gcd(HEAD, width),
        "num_hidden_layers": len(layers),
        "pad_token_id": VOCABULARY - 1,
        "projection_dim": width,
        "vocab_size": vocabulary,
    }
