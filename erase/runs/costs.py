"""What a run costs the denoiser: images that pass through it, counted before anything is made.

One image through the denoiser is a *forward*; one with a gradient counts three times, forward and
twice as much backward.
"""

from __future__ import annotations

from erase.methods import load_method
from erase.recipes.recipe import Recipe
from erase.runs.run import roles_of


def forwards(recipe: Recipe) -> float:
    """Forwards of a run's mask and training; see ``methods.Method.forwards``."""
    if not load_method(recipe.method).NEEDS.loop:
        return 0.0
    return mask_forwards(recipe) + training_forwards(recipe, recipe.steps)


def mask_forwards(recipe: Recipe) -> float:
    """Forwards of the saliency pass; 0 for the other masks."""
    if recipe.mask != "saliency":
        return 0.0
    passes = 2 if hasattr(load_method(recipe.method), "found") else 1
    return passes * 3.0 * recipe.forget_images * (2 if recipe.saliency_guidance else 1)


def training_forwards(recipe: Recipe, steps: int) -> float:
    """Forwards of so many training steps, and of what comes before them."""
    return load_method(recipe.method).forwards(recipe.config, steps, recipe.batch_size)


def image_forwards(recipe: Recipe) -> float:
    """Forwards of making the images that a run trains on: one a sampling step, two with guidance.

    Each sampler on offer asks the denoiser once a step.
    """
    images = sum(int(getattr(recipe, f"{role}_images")) for role in roles_of(recipe))
    return float(images * recipe.sampling_steps * (2 if recipe.guidance_scale > 1 else 1))
