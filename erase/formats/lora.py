"""LoRA: what an erasure changed, as products of two thin matrices, which every program loads.

A layer's change ΔW becomes its best approximation of rank r, up·down (Eckart and Young). Biases and
norms are left out: a LoRA has no place for them. It moves every weight of the layers that it
changes, so that weights outside a mask no longer equal the base's.

Names are those of kohya's scripts: diffusers' for Stable Diffusion 1 and 2, the original layout's
for XL, of which diffusers would drop two layers under its own names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from erase.formats import How
from erase.formats.adapters import Layers, applied, holds, save
from erase.formats.base import Base
from erase.formats.foreign import before_and_after
from erase.runtime.errors import UserError
from erase.runtime.fingerprint import fingerprint_state
from erase.runtime.progress import each, progress
from erase.runtime.words import counted

NAME = "LoRA"
ENDS = (".safetensors",)
WHOLE = False
LEARNED = True
WRITES, KIND = ".safetensors", "lora"
HELP = "an approximation of what differs from --base, for every program"

_NOISE = 1e-6
"""Singular values below this share of the largest are rounding of the weights."""


@dataclass(frozen=True)
class Options:
    """Those of ``erase export``."""

    rank: int = field(
        default=32,
        metadata={"help": "of a LoRA's matrices, >= 1; more is nearer to the edit"},
    )

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UserError(f"--rank {self.rank} is less than 1: give at least 1, e.g. 32.")


def reads(path: Path) -> bool:
    """See ``Format``."""
    return holds(path, (".lora_down.weight",))


def read(path: Path, base: Base) -> dict[str, Tensor]:
    """See ``Format``."""
    return applied(path, base)


def write(model: Base, target: Path, how: How) -> str:
    """Tells how much of the edit's energy, the sum of its squares, the file keeps."""
    before, after = before_and_after(model, how.base, NAME)
    assert how.base is not None
    layers = Layers.of(how.base)
    dtype = getattr(torch, how.dtype) if how.dtype else torch.float32
    tensors: dict[str, Tensor] = {}
    total = lost = 0.0
    for name, old in each(before.items(), progress("layers", len(before), "weight")):
        change = after[name].float() - old.float()
        energy = float(change.double().square().sum())
        total += energy
        layer, _, end = name.rpartition(".")
        if energy == 0 or end != "weight" or change.ndim < 2:
            lost += energy
            continue
        up, down = (m.to(dtype) for m in low_rank(change.flatten(1), how.options.rank))
        key, rank = layers.kohya(layer), len(down)
        rest = change.flatten(1) - up.float() @ down.float()
        lost += float(rest.double().square().sum())
        is_convolution = change.ndim == 4
        tensors[f"{key}.alpha"] = torch.tensor(float(rank))  # so that alpha/r is 1
        tensors[f"{key}.lora_down.weight"] = down.reshape(rank, *change.shape[1:])
        tensors[f"{key}.lora_up.weight"] = up.reshape(-1, rank, *(1, 1) * is_convolution)
    _refuse_nothing(total, tensors)
    kept = 1 - lost / total
    facts = {"base": fingerprint_state(before), "rank": how.options.rank, "energy": round(kept, 6)}
    size = save(target, tensors, layers, facts)
    return (
        f"{target}: a LoRA of rank {how.options.rank} for {counted(len(tensors) // 3, 'layer')}, "
        f"{size}, with {100 * kept:.1f}\u00a0% of the edit's energy"
    )


def low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The best approximation up·down of a matrix (m, n): up (m, r), down (r, n), fp32.

    By the eigenvectors of the Gram matrix of the shorter side, in fp64. Each factor carries the
    root of the singular values.

    Args:
        matrix: not all zero.
        rank: the most that r may be; less where the matrix has less.
    """
    wide = matrix.shape[0] <= matrix.shape[1]
    a = (matrix if wide else matrix.T).double()
    squares, vectors = torch.linalg.eigh(a @ a.T)  # in ascending order
    least = squares[-1] * _NOISE**2
    r = min(rank, int((squares > least).sum()))
    u, root = vectors[:, -r:].flip(1), squares[-r:].flip(0) ** 0.25
    up, down = u * root, (u.T @ a) / root[:, None]
    return (up.float(), down.float()) if wide else (down.T.float(), up.T.float())


def _refuse_nothing(total: float, tensors: Mapping[str, Tensor]) -> None:
    if total == 0:
        raise UserError("The model equals its base, so there is no LoRA: give an erased model.")
    if not tensors:
        raise UserError(
            "Only biases and norms were changed, which a LoRA can't hold: use --format lycoris."
        )
