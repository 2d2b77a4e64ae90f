"""A denoiser's weights by diffusers' names: all of them, or those that were trained alone.

SalUn's code saves the first (``.pt``), ESD's the second (``.safetensors``).
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from erase.formats.base import Base
from erase.formats.original.keys import UNET
from erase.formats.tensors import FILES, read_tensors, tensor_names

NAME = "state dict of a denoiser"
ENDS = FILES
WHOLE = False


def reads(path: Path) -> bool:
    """See ``Format``; ``:`` stands in a delta's names."""
    names = tensor_names(path) if path.is_file() and path.suffix in ENDS else None
    return names is not None and not any(n.startswith(UNET) or ":" in n for n in names)


def read(path: Path, base: Base) -> dict[str, Tensor]:
    """See ``Format``."""
    return read_tensors(path)
