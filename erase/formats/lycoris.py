"""LyCORIS: all that an erasure changed, as full differences of the layers that it touched.

A1111, Forge and ComfyUI add them to weights, biases and norms (``diff``, ``diff_b``, ``w_norm``,
``b_norm``); diffusers refuses such a file. Weights outside a mask stay the base's. Layers have the
original layout's names for every generation: under diffusers' A1111 knows no output norm. Both of a
layer's differences are there even where one is zero, since A1111 takes no bias without a weight.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from erase.formats import How
from erase.formats.adapters import Layers, applied, holds, layer_names, save
from erase.formats.base import Base
from erase.formats.foreign import before_and_after
from erase.runtime.errors import UserError
from erase.runtime.fingerprint import fingerprint_state
from erase.runtime.words import counted

NAME = "LyCORIS file"
ENDS = (".safetensors",)
WHOLE = False
LEARNED = True
WRITES, KIND = ".safetensors", "lycoris"
HELP = "all that differs from --base, for A1111, Forge and ComfyUI, not for diffusers"


def reads(path: Path) -> bool:
    """See ``Format``."""
    return holds(path, (".diff", ".diff_b", ".w_norm", ".b_norm"))


def read(path: Path, base: Base) -> dict[str, Tensor]:
    """See ``Format``."""
    return applied(path, base)


def write(model: Base, target: Path, how: How) -> str:
    """Tells how many of the sums W + diff round to another weight than the model's.

    Where an edit nearly cancels a larger weight, no fp32 difference leads to the exact result.
    """
    if how.dtype not in (None, "float32"):
        raise UserError(
            "--dtype has no effect on a LyCORIS file, which keeps differences in fp32: leave it "
            "out."
        )
    before, after = before_and_after(model, how.base, NAME)
    assert how.base is not None
    layers = Layers.of(how.base)
    tensors: dict[str, Tensor] = {}
    moved = rounded = 0
    for layer in layer_names(before):
        ends = [end for end in ("weight", "bias") if f"{layer}.{end}" in before]
        old, new = ([s[f"{layer}.{end}"].float() for end in ends] for s in (before, after))
        if all(map(torch.equal, old, new)):
            continue
        is_norm = old[0].ndim == 1
        names = ("w_norm", "b_norm") if is_norm else ("diff", "diff_b")
        for name, a, b in zip(names, old, new, strict=False):
            tensors[f"{layers.original(layer)}.{name}"] = b - a
            moved += int((a != b).sum())
            rounded += int((a + (b - a) != b).sum())
    if not tensors:
        raise UserError(
            "The model equals its base, so there is no LyCORIS file: give an erased model."
        )
    touched = len({name.partition(".")[0] for name in tensors})
    size = save(target, tensors, layers, {"base": fingerprint_state(before)})
    rest = f", {rounded:,} of them up to rounding" if rounded else ""
    return f"{target}: {moved:,} moved weights{rest} in {counted(touched, 'layer')}, {size}"
