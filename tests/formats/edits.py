"""Erased tiny models, for what holds an edit."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from erase.formats.base import open_base
from erase.formats.pipeline import save_model


def edited(base: Path, folder: Path, only: str = "", share: float = 1.0) -> dict[str, Tensor]:
    """Writes a model of which weights moved by about 0.01.

    Args:
        base: a pipeline.
        folder: new.
        only: what the names of the moved parameters contain.
        share: of their weights that move, in (0, 1].

    Returns:
        The denoiser's weights.
    """
    opened, draw = open_base(str(base)), torch.Generator().manual_seed(5)
    state = {name: value.clone() for name, value in opened.denoiser_state().items()}
    for name, value in state.items():
        if only in name:
            moved = torch.rand(value.shape, generator=draw) < share
            value += 1e-2 * moved * torch.randn(value.shape, generator=draw)
    save_model(opened, state, folder)
    return state
