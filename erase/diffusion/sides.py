"""Which sides an image may have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from erase.images.request import Sampler
from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion


def check_sides(
    diffusion: Diffusion,
    sampler: Sampler,
    sizes: Iterable[tuple[int | None, int | None] | None] = (),
) -> None:
    """Refuses images that a model can't make.

    Args:
        diffusion: the model.
        sampler: whose size goes before all others.
        sizes: that single images ask for, see ``images.request.Shot``.

    Raises:
        UserError: naming what it can.
    """
    family = diffusion.family
    for size in {None, *sizes}:
        height, width = sampler.sides(size, diffusion.size)
        for side in (height, width):
            if side % family.multiple:
                raise UserError(
                    f"{side} px is not divisible by {family.multiple}, as this model's images are: "
                    "choose another --size, or other sizes in the prompts' file."
                )
        if height != width and family.square:
            raise UserError(
                f"This model makes only square images, not {width} × {height} px: give --size, or "
                "other sizes in the prompts' file."
            )
