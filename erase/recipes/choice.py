"""Which recipe a run takes that names none, or names one by its short name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from erase.recipes.recipe import list_recipes
from erase.runtime.errors import UserError, clipped
from erase.runtime.files import MODELS

if TYPE_CHECKING:
    from erase.prompts.concept import Concept


def default_recipe(model: str, concept: Concept | None = None) -> str:
    """The recipe of a run that names none, by its model and what it erases, if anything.

    What was published for Stable Diffusion 1.4 is the default of Stable Diffusion 1 alone.

    Raises:
        UserError: what was published for a concept may be its recipe or not, since the model is not
            here and the hub can't be asked. A guess would be another recipe once it is.
    """
    own = f"salun-{model}"
    if model in MODELS and own in list_recipes():
        return own
    if concept is not None and concept.classes:
        return "salun-ddpm"
    published = None
    if concept is not None and concept.kind == "nudity":
        published = "salun-sd14-nudity"
    if concept is not None and concept.family == "imagenette":
        published = "salun-sd14-imagenette"
    if published is None:
        return "salun-sd"
    from erase.formats.generation import kind_of

    kind = kind_of(model)
    if kind is None:
        raise UserError(
            f"The hub can't be asked now whether '{clipped(model)}' is a Stable Diffusion 1 model, "
            f"for which {published} was published: add --recipe {published}, or --recipe "
            "salun-sd for Stable Diffusion 2 or XL."
        )
    return published if kind == "1" else "salun-sd"


def recipe_for(name: str, model: str) -> str:
    """The recipe that ``name`` stands for with this model.

    A bundled model learns at rates that would wreck Stable Diffusion, and the reverse: with mini,
    ``esd-x`` stands for ``esd-x-mini`` where there is such a recipe.
    """
    own = f"{name}-{model}"
    return own if model in MODELS and own in list_recipes() else name


def is_bundled(recipe: str) -> bool:
    """Whether a recipe is for a bundled model, by the end of its name."""
    return recipe.endswith(tuple(f"-{model}" for model in MODELS))
