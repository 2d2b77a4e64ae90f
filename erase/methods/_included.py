"""A model that others erased, taken as it is: its weights in place of a training.

No recipe can ask for it; ``erase compare --include`` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from erase.methods import Needs

if TYPE_CHECKING:
    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(images=(), anchor=False, loop=False, scope="full", trains=False)


@dataclass(frozen=True)
class Config:
    """The model that someone else erased.

    Attributes:
        file: its name, which is all that a report says of its place.
        path: the place; none where it is read already.
        strength: see ``formats.foreign.included_state``.
    """

    file: str
    path: Path = field(default=Path(), metadata={"reads": "included"})
    strength: float = 1.0


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: what it took is not known."""
    return 0.0


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Sets ``diffusion``'s denoiser to the model's, in place.

    Raises:
        UserError: see ``formats.foreign.included_state``.
    """
    from erase.formats.base import open_base
    from erase.formats.foreign import included_state

    state = included_state(config.path, open_base(diffusion.source), config.strength)
    fit.assign(diffusion.denoiser, lambda name, _: state[name])
