"""Edits of one base added up: θ0 + Σ (θ_i − θ0) for models θ_i that runs have erased from it.

No recipe can ask for it; ``erase combine`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from erase.methods import Needs

if TYPE_CHECKING:
    from torch import Tensor

    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(images=(), anchor=False, loop=False, scope="full", trains=False)


@dataclass(frozen=True)
class Config:
    """The edits.

    Attributes:
        runs: names of the runs, in their order.
        overlap: share of the moved weights that more than one of them moved, in [0, 1].
        models: their denoisers' folders; none where the sum is made already.
    """

    runs: str
    overlap: float
    models: tuple[Path, ...] = field(default=(), metadata={"reads": "runs"})


class Sum(NamedTuple):
    """Edits of one base, added up.

    Attributes:
        state: the weights, fp32, by name.
        moved: how many of them any edit moved.
        shared: how many of those more than one moved.
    """

    state: dict[str, Tensor]
    moved: int
    shared: int


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: what the edits took is told by their own runs."""
    return 0.0


def add(base: Mapping[str, Tensor], edits: Sequence[Mapping[str, Tensor]]) -> Sum:
    """Adds edits up. A weight that one of them moved takes its very value from there; where several
    moved it, their differences from the base are summed in fp64.

    Args:
        base: θ0 by name.
        edits: θ_i, of the same names and shapes.
    """
    import torch

    state = {}
    moved = shared = 0
    for name, value in base.items():
        old = value.float()
        last, times = old, torch.zeros_like(old, dtype=torch.uint8)
        total = old.double()
        for edit in edits:
            new = edit[name].float()
            own = new != old
            total += new.double() - old.double()
            last = torch.where(own, new, last)
            times += own
        state[name] = torch.where(times > 1, total.float(), last)
        moved += int((times > 0).sum())
        shared += int((times > 1).sum())
    return Sum(state, moved, shared)


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Sets ``diffusion``'s denoiser to the sum, in place.

    Raises:
        UserError: a model can't be read.
    """
    from erase.formats.base import open_base
    from erase.formats.folder import read_parts

    base = open_base(diffusion.source).denoiser_state()
    state = add(base, [read_parts(folder.parent, "denoiser") for folder in config.models]).state
    fit.assign(diffusion.denoiser, lambda name, _: state[name])
