"""Delta files: what an erasure changed, to be applied to the base model that others have already.

A delta holds new values rather than differences, so that applying it gives the erased model's own
bits; a difference added in floating point would not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from erase.formats import How
from erase.formats.base import Base
from erase.formats.foreign import before_and_after
from erase.formats.layouts import Part, part_of
from erase.formats.tensors import read_metadata, save_tensors, tensor_names
from erase.runtime.errors import UserError, reason
from erase.runtime.files import atomic
from erase.runtime.fingerprint import fingerprint_state

NAME = "delta"
ENDS = (".safetensors",)
WHOLE = False
WRITES, KIND = ".safetensors", "delta"
HELP = "only the weights that differ from --base, for erase itself"
METADATA = "erase.delta"


def reads(path: Path) -> bool:
    """See ``Format``."""
    return path.suffix in ENDS and path.is_file() and is_delta(path)


def read(path: Path, base: Base) -> dict[str, Tensor]:
    """See ``Format``."""
    _facts(path)
    return apply_delta(path, base.state(*_parts(tensor_names(path) or ())))


def write(model: Base, target: Path, how: How) -> str:
    """Writes what differs from ``how.base``, which may be denoiser and text encoders alone."""
    if how.dtype is not None:
        raise UserError(
            "--dtype has no effect on a delta, which keeps new values in fp32: leave it out."
        )
    count = save_delta(target, *before_and_after(model, how.base, NAME, text=True))
    return f"{target}: {count:,} moved weights"


def save_delta(file: Path, base: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> int:
    """Writes the weights of ``new`` that differ from ``base``.

    Per changed tensor NAME of n weights, ``NAME:mask`` is uint8 (⌈n/8⌉,), the flattened mask as
    ``numpy.packbits(..., bitorder="little")`` packs it, and ``NAME:values`` is fp32, the new
    values at its ones in that order. The metadata state the fingerprints of both models
    (``fingerprint_state``), of the parts that changed.

    Args:
        file: safetensors, written whole or not at all.
        base, new: tensors of the same parts, named as ``Layout.joined`` does; half precision
            counts as what it upcasts to.

    Returns:
        The number of changed weights.

    Raises:
        UserError: the two are of different architectures, or equal.
    """
    if _shapes(base) != _shapes(new):
        raise UserError(
            "A delta needs two models of the same architecture: give the model's own base."
        )
    tensors: dict[str, Tensor] = {}
    count = 0
    for name in base:
        before, after = (
            state[name].detach().to("cpu", torch.float32).reshape(-1) for state in (base, new)
        )
        # As bits: -0.0 equals 0.0, but is not what the fingerprint saw.
        moved = after.view(torch.int32) != before.view(torch.int32)
        if moved.any():
            packed = np.packbits(moved.numpy(), bitorder="little")
            tensors[f"{name}:mask"] = torch.from_numpy(packed)
            tensors[f"{name}:values"] = after[moved]
            count += len(tensors[f"{name}:values"])
    if not tensors:
        raise UserError("The model equals its base, so there is no delta: give an erased model.")
    known, made = (fingerprint_state(_of_parts(tensors, state)) for state in (base, new))
    facts = {"base": known, "result": made, "weights": count}
    with atomic(file) as part:
        save_tensors(part, tensors, {METADATA: json.dumps(facts)})
    return count


def is_delta(file: Path) -> bool:
    """Whether a file is a delta, as far as its header tells."""
    try:
        _facts(file)
    except UserError:
        return False
    return True


def apply_delta(file: Path, base: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The erased model's tensors: changed ones in fp32, the others ``base``'s own.

    Args:
        file: written by ``save_delta``.
        base: tensors of the very model the delta was made from, of the parts that it changes at
            least; a copy that was rounded to another precision is another model.

    Raises:
        UserError: the file is no delta, damaged, or was made from another model.
    """
    from safetensors import safe_open

    facts = _facts(file)
    changed = tensor_names(file) or ()
    if fingerprint_state(_of_parts(changed, base)) != facts["base"]:
        raise UserError(f"{file} was made from a different base model: apply it to that one.")
    result = dict(base)
    try:
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 (no mapping)
                name, _, what = key.rpartition(":")
                if what != "mask":
                    continue
                value = base[name].detach().to("cpu", torch.float32, copy=True)
                bits = np.unpackbits(
                    opened.get_tensor(key).numpy(), count=value.numel(), bitorder="little"
                )
                moved = torch.from_numpy(bits).bool()
                value.view(-1)[moved] = opened.get_tensor(f"{name}:values")
                result[name] = value
    except Exception as error:  # whatever a damaged file makes the libraries raise
        raise UserError(f"{file} is damaged ({reason(error)}): get a new copy.") from error
    if fingerprint_state(_of_parts(changed, result)) != facts["result"]:
        raise UserError(
            f"{file} is damaged (its result is not the model that it states): get a new copy."
        )
    return result


def _parts(names: Iterable[str]) -> tuple[Part, ...]:
    """The parts of which a delta's names are."""
    return tuple(dict.fromkeys(map(part_of, names)))


def _of_parts(names: Iterable[str], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of those parts."""
    parts = _parts(names)
    return {name: value for name, value in state.items() if part_of(name) in parts}


def _facts(file: Path) -> dict[str, Any]:
    try:
        facts = json.loads(read_metadata(file)[METADATA])
        return {"base": str(facts["base"]), "result": str(facts["result"])}
    except (UserError, LookupError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{file} is not a delta file: give one that 'erase export' wrote."
        ) from error


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}
