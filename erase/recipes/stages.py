"""Which settings of a recipe each stage reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erase.recipes.recipe import Recipe, as_dict

SALIENCY_KEYS = (
    *("mask", "scope", "ratio", "saliency_guidance", "saliency_sum", "saliency_batch"),
    "low_memory",
)
SAMPLING_KEYS = ("sampler", "sampling_steps", "guidance_scale", "sampling_batch", "size")
EVALUATION_KEYS = (
    "eval_forget",
    "eval_retain",
    "eval_neighbours",
    "eval_general",
    "eval_empty",
)
TRAINING_KEYS = (
    "method",
    "lr",
    "lr_schedule",
    "optimizer",
    "weight_decay",
    "steps",
    "batch_size",
    "micro_batch",
    "retain_empty",
    "precision",
    "low_memory",
)
METHOD = "included"
"""What a report gives as the method of such a model."""


def settings(recipe: Recipe, path: Path) -> dict[str, Any]:
    """What a report can say of the model in place of a recipe: how its images are made."""
    flat = as_dict(recipe)
    shown = {key: flat[key] for key in ("name", *SAMPLING_KEYS, *EVALUATION_KEYS)}
    return {**shown, "method": METHOD, "file": path.name}
