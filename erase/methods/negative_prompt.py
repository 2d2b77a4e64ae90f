"""The concept as a negative prompt: nothing is trained, images are steered away from it.

    ε̃ = ε(x_t, n) + s (ε(x_t, c) - ε(x_t, n)), the negative prompt n in the place of ∅

Whoever has the weights leaves it out, so that a comparison alone takes it, as what costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from erase.methods import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from erase.diffusion.data import TrainingData
    from erase.diffusion.guided import Guide
    from erase.diffusion.model import Diffusion
    from erase.images.make import Samples
    from erase.unlearn.fit import Fit

NEEDS = Needs(
    images=(),
    anchor=False,
    text="steers a prompt away from one of its words",
    loop=False,
    scope="full",
    trains=False,
)
SPACE: dict[str, tuple[float, float]] = {}


@dataclass(frozen=True)
class Config:
    """The negative prompt."""

    negative: str | None = field(
        default=None,
        metadata={
            "help": "text that images are steered away from; the concept's word if not given",
            "optional": True,
        },
    )


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: nothing is trained."""
    return 0.0


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Leaves ``diffusion``'s weights as they are."""
    fit.assign(diffusion.denoiser, lambda _, w0: w0)


def maker(diffusion: Diffusion, config: Config, word: str) -> Samples:
    """What makes the images; ``word`` is the concept's, where no negative prompt is given."""
    from erase.diffusion.guided import Guided

    def guide(done: float, s: float, empty: Tensor, c: Tensor, n: Tensor) -> Tensor:
        return n + s * (c - n)

    def anew() -> Guide:
        return guide

    return Guided(diffusion, word if config.negative is None else config.negative, anew)
