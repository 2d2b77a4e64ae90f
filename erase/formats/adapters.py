"""What LoRA and LyCORIS files have in common: layers by name, and a base that they change.

Layers are named as A1111's, Forge's and ComfyUI's loaders look them up: ``lora_unet_`` and a name
of diffusers or of the original layout, with underscores for dots.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from erase.formats.base import Base
from erase.formats.configs import read_json
from erase.formats.folder import layout_of
from erase.formats.original.keys import rename, unet_table
from erase.formats.original.layout import kind_of_folder
from erase.formats.tensors import read_metadata, read_tensors, save_tensors, tensor_names
from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.files import atomic
from erase.runtime.fingerprint import fingerprint_state

METADATA = "erase.edit"
_PREFIX = "lora_unet_"
_TEXT = ("lora_te_", "lora_te1_", "lora_te2_")
_PRODUCT = ("lora_up.weight", "lora_down.weight")
_PLACES = {"diff": "weight", "w_norm": "weight", "diff_b": "bias", "b_norm": "bias"}
"""What a file adds to a layer, without a product of matrices."""

_VERSIONS: Mapping[str, Mapping[str, str]] = {
    "1": {"ss_base_model_version": "sd_v1"},
    "2": {"ss_base_model_version": "sd_v2", "ss_v2": "True"},
    "XL": {"ss_base_model_version": "sdxl_base_v1-0"},
}
"""kohya's metadata, by which A1111 and Forge offer a file beside a model of its generation; a file
with other metadata alone counts as one for Stable Diffusion 1."""


@dataclass(frozen=True)
class Layers:
    """A denoiser as files of adapters know it.

    Attributes:
        kind: its generation: ``1``, ``2`` or ``XL``.
        config: of the denoiser.
    """

    kind: str
    config: Mapping[str, Any]

    @classmethod
    def of(cls, base: Base) -> Layers:
        """Those of a base.

        Raises:
            UserError: it can't be read, or is of a generation that these files have no names for.
        """
        if base.path.is_dir():
            return cls._in(base.path, base.spec)
        with TemporaryDirectory() as place:
            base.unpack(Path(place))
            return cls._in(Path(place), base.spec)

    @classmethod
    def _in(cls, folder: Path, source: str) -> Layers:
        kind = kind_of_folder(folder)
        if kind not in _VERSIONS:
            raise UserError(
                f"{source} is not a Stable Diffusion 1, 2 or XL, for which LoRA and LyCORIS files "
                "have names: use --format delta."
            )
        return cls(kind, read_json(folder / layout_of(folder).denoiser / "config.json"))

    @cached_property
    def _table(self) -> Mapping[str, str]:
        return unet_table(self.config)

    def kohya(self, layer: str) -> str:
        """A layer's name as kohya's scripts write it: after diffusers' for 1 and 2, after the
        original layout's for XL.

        Raises:
            UserError: see ``original``.
        """
        return self.original(layer) if self.kind == "XL" else self.diffusers(layer)

    def diffusers(self, layer: str) -> str:
        """A layer's name after diffusers'."""
        return _PREFIX + layer.replace(".", "_")

    def original(self, layer: str) -> str:
        """A layer's name after the original layout's, which every generation has.

        Raises:
            UserError: a denoiser that the layout has no names for.
        """
        named = rename(f"{layer}.weight", self._table)
        if named is None:
            raise UserError(
                f"The original Stable Diffusion layout has no place for '{clipped(layer)}': use "
                "--format delta."
            )
        return self.diffusers(named.removesuffix(".weight"))


def layer_names(state: Iterable[str]) -> list[str]:
    """The layers that parameters belong to, each once."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in state))


def holds(path: Path, ends: tuple[str, ...]) -> bool:
    """Whether a safetensors file has a tensor whose name ends so, as far as its header tells."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    return any(name.endswith(ends) for name in tensor_names(path))


def save(
    file: Path, tensors: Mapping[str, Tensor], layers: Layers, facts: Mapping[str, Any]
) -> str:
    """Writes the file, whole or not at all, with ``facts`` in its metadata; returns its size."""
    told = {**_VERSIONS[layers.kind], METADATA: json.dumps(facts)}
    with atomic(file) as part:
        save_tensors(part, tensors, told)
    return f"{file.stat().st_size / 1e6:,.2f} MB"


def applied(path: Path, base: Base) -> dict[str, Tensor]:
    """The parameters that a file changes, fp32: W + (alpha/r)·up·down, or W + diff.

    Args:
        path: a LoRA, a LyCORIS file of full differences, or both in one; anybody's.
        base: what it belongs to.

    Raises:
        UserError: it says that it belongs to another base, does not fit this one, changes a text
            encoder too, or holds another kind of adapter.
    """
    state = base.denoiser_state()
    stated = _base_of(path)
    if stated is not None and stated != fingerprint_state(state):
        raise UserError(f"{path} was made from a different base model: apply it to that one.")
    known = _known(Layers.of(base), layer_names(state))
    found: dict[str, Tensor] = {}
    for key, own in _by_layer(path).items():
        if key not in known:
            raise UserError(_foreign(path, key, known))
        for end, change in _changes(path, key, own).items():
            name = f"{known[key]}.{end}"  # which a file may call by two names
            if name not in state or not _fits(change, state[name]):
                raise UserError(
                    f"{path} does not fit the base model: its '{clipped(key)}' has another shape. "
                    "Give the model that it was made from."
                )
            before = found.get(name, state[name].float())
            found[name] = before + change.reshape(state[name].shape)
    return found


def _fits(change: Tensor, weight: Tensor) -> bool:
    """Whether a change is of a weight's shape, a convolution's in either form; a transposed matrix
    would fit by its size alone."""
    flat = [x.flatten(1) if x.ndim > 1 else x.flatten() for x in (change, weight)]
    return flat[0].shape == flat[1].shape


def _known(layers: Layers, names: Iterable[str]) -> dict[str, str]:
    """Layers by what files may call them."""
    found = {layers.diffusers(name): name for name in names}
    with suppress(UserError):  # blocks that the original layout does not know
        found |= {layers.original(name): name for name in names}
    return found


def _by_layer(path: Path) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for name, value in read_tensors(path).items():
        key, _, what = name.partition(".")
        found.setdefault(key, {})[what] = value.float()
    return found


def _changes(path: Path, key: str, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is added to a layer's weight and bias."""
    left = dict(own)
    found: dict[str, Tensor] = {}
    alpha = left.pop("alpha", None)
    up, down = (left.get(f"lora_{side}.weight") for side in ("up", "down"))
    if up is not None and down is not None and _multiply(up, down, alpha):
        scale = 1.0 if alpha is None else float(alpha) / len(down)
        found["weight"] = scale * (up.flatten(1) @ down.flatten(1))
        left = {k: v for k, v in left.items() if k not in _PRODUCT}
    for what, end in _PLACES.items():
        if what in left and end not in found:
            found[end] = left.pop(what)
    if left:
        raise UserError(
            f"{path} holds '{clipped(f'{key}.{next(iter(left))}')}', which is neither a plain LoRA "
            "nor a full difference: merge it into the base and give the complete model."
        )
    return found


def _multiply(up: Tensor, down: Tensor, alpha: Tensor | None) -> bool:
    """Whether the parts of a product fit each other."""
    wide = up.ndim > 1 and down.ndim > 1 and len(down) > 0
    return wide and up[0].numel() == len(down) and (alpha is None or alpha.numel() == 1)


def _foreign(path: Path, key: str, known: Mapping[str, str]) -> str:
    if key.startswith(_TEXT):
        return (
            f"{path} also changes a text encoder ('{clipped(key)}'), but only the denoiser can be "
            "changed by such a file: merge it into the base and give the complete model."
        )
    return (
        f"{path} does not fit the base model, which has no layer '{clipped(key)}'."
        f"{nearest(key, known)} Give the model that it was made from."
    )


def _base_of(path: Path) -> str | None:
    """The fingerprint of the base that a file of ours states."""
    try:
        return str(json.loads(read_metadata(path)[METADATA])["base"])
    except (LookupError, ValueError, TypeError, RecursionError):
        return None
