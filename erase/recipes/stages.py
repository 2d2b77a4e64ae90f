"""What stands in a run's record in place of a recipe, where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erase.recipes.recipe import Recipe, as_dict, keys

METHOD = "included"
"""What a report gives as the method of such a model."""


def settings(recipe: Recipe, path: Path) -> dict[str, Any]:
    """What a report can say of the model in place of a recipe: how its images are made."""
    flat = as_dict(recipe)
    shown = {key: flat[key] for key in ("name", *keys("base", "eval"))}
    return {**shown, "method": METHOD, "file": path.name}
