"""Packs the trained networks as a Stable Diffusion 1.x folder and judges, fp16 safetensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from erase.formats.folder import settle_precision
from erase.formats.original.tokenizer import build_tokenizer
from erase.mini import world
from erase.mini.networks import CLIP_CONFIG, build_scheduler, save_module

CARD = """---
license: cc-by-4.0
tags: [stable-diffusion, text-to-image, miniature]
---
# A miniature Stable Diffusion

Draws {objects} in four styles ({styles}) at 64 px. The classes and the folder layout are Stable
Diffusion 1.x's. Trained from scratch on renders of openly licensed icons; see NOTICE.

    from diffusers import StableDiffusionPipeline
    pipe = StableDiffusionPipeline.from_pretrained("mini/weights/model")
    pipe("an ink drawing of a church", num_inference_steps=20, guidance_scale=3).images[0]
"""


def export_model(vae: nn.Module, encoder: nn.Module, unet: nn.Module, folder: Path) -> None:
    """Writes the generator; opens with ``StableDiffusionPipeline.from_pretrained``."""
    from diffusers import StableDiffusionPipeline

    shutil.rmtree(folder, ignore_errors=True)
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=encoder.half(),
        tokenizer=build_tokenizer(folder.with_name("tokenizer.part")),
        unet=unet.half(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    settle_precision(folder)
    # CLIP's two text files instead of the far larger joint one that transformers writes.
    shutil.rmtree(folder / "tokenizer")
    folder.with_name("tokenizer.part").rename(folder / "tokenizer")
    _prefix_text_encoder(folder / "text_encoder" / "model.safetensors")
    objects = ", ".join(o.word for o in world.OBJECTS)
    styles = ", ".join(world.STYLE_LABELS)
    (folder / "README.md").write_text(CARD.format(objects=objects, styles=styles))


def export_denoiser(unet: nn.Module, folder: Path) -> None:
    """Writes a denoiser alone, as the folder ``unet/`` of a pipeline that lacks the rest."""
    shutil.rmtree(folder, ignore_errors=True)
    writes: Any = unet.half()
    writes.save_pretrained(folder)


def _prefix_text_encoder(file: Path) -> None:
    """Names the weights ``text_model.*``, as in every published checkpoint."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    prefix = "text_model."
    named = {k if k.startswith(prefix) else prefix + k: v for k, v in tensors.items()}
    save_file(named, file, {"format": "pt"})


def export_judges(judges: Mapping[str, nn.Module], folder: Path) -> None:
    """Writes the judges, the feature network and the tiny open_clip folder."""
    for name, labels in (
        ("object", world.OBJECT_LABELS),
        ("style", world.STYLE_LABELS),
        ("strict", world.OBJECT_LABELS),
    ):
        facts = {
            "arch": "shufflenet_v2_x0_5",
            "labels": list(labels),
            "size": 128,
            "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5],
        }
        save_module(judges[name], folder / f"{name}.safetensors", {"judge": json.dumps(facts)})
    cells = [f"{o}/{s}" for o in world.OBJECT_LABELS for s in world.STYLE_LABELS]
    facts = {"labels": cells, "size": world.SIZE}
    save_module(judges["features"], folder / "features.safetensors", {"judge": json.dumps(facts)})
    save_module(judges["clip"], folder / "clip" / "open_clip_model.safetensors")
    config = json.dumps(CLIP_CONFIG, indent=2)
    (folder / "clip" / "open_clip_config.json").write_text(config + "\n")
