"""Masks: one bit per weight that says whether it may move (SalUn, arXiv 2310.12508, equation 4)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from erase.runtime.errors import UserError, reason
from erase.runtime.files import atomic
from erase.runtime.fingerprint import fingerprint
from erase.unlearn.topk import Block, magnitude_blocks, random_blocks, select

_POPULATION = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1, dtype=np.uint8)
"""Number of ones in each byte."""


@dataclass(frozen=True, eq=False)
class Mask:
    """One bit per weight of a module, by parameter name, and where the bits come from.

    Attributes:
        bits: uint8 (⌈n/8⌉,) per parameter of n weights: the flattened mask as
            ``numpy.packbits(..., bitorder="little")`` packs it; the last byte is padded with 0.
        shapes: of the parameters, under the same names.
        provenance: JSON values. ``scope`` is a name for the parameters that the mask is drawn from
            (default ``full``), ``fingerprint`` the model it belongs to.
        names: the parameters that the mask is drawn from; None for all.

    Raises:
        UserError: bits, shapes and names do not belong together.
    """

    bits: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    names: frozenset[str] | None = None

    def __post_init__(self) -> None:
        if list(self.bits) != list(self.shapes) or not (self.names or set()) <= self.shapes.keys():
            raise UserError("A mask needs bits and a shape for every parameter: make it again.")
        for name, bits in self.bits.items():
            n = math.prod(self.shapes[name])
            fits = bits.dtype == torch.uint8 and tuple(bits.shape) == (-(-n // 8),)
            if not fits or (n % 8 and int(bits[-1]) >> n % 8):
                raise UserError(
                    f"The bits of '{name}' don't fit its shape {self.shapes[name]}: make "
                    "the mask again."
                )

    @classmethod
    def top(
        cls,
        saliency: Mapping[str, Tensor | NDArray[np.float32]],
        ratio: float,
        denoiser: nn.Module | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Mask:
        """The ⌊ratio·N⌋ largest of all N magnitudes in one global ranking.

        Exact: where weights tie at the threshold, the earlier one is taken, in the order of the
        mapping and then of the flattened tensor. Needs about 4 % of the memory of the values, the
        result included.

        Args:
            saliency: float32 tensors of any shape, on any device (see ``topk.magnitude_blocks``).
            ratio: in (0, 1].
            denoiser: the model that the weights belong to: its other parameters get no bits, and
                its fingerprint is recorded unless ``provenance`` states it.
            provenance: what to record beside the bits.

        Raises:
            UserError: the ratio is out of range, or a value is not a finite float32.
        """
        for name, values in saliency.items():
            if values.dtype not in (torch.float32, np.float32):
                raise UserError(f"The saliency of '{name}' is {values.dtype}: give float32.")
        own = {name: tuple(values.shape) for name, values in saliency.items()}
        k = _share(ratio, sum(map(math.prod, own.values())))
        # Insertion order of the saliency, not of the model, decides between ties.
        return cls._selected(
            own, k, denoiser, provenance, lambda n, out: magnitude_blocks(n, saliency[n], out)
        )

    @classmethod
    def full(
        cls,
        params: Mapping[str, Tensor],
        denoiser: nn.Module | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Mask:
        """All weights of ``params``; the other arguments are those of ``top``."""
        own = {name: tuple(p.shape) for name, p in params.items()}
        shapes = _shapes(own, denoiser)
        bits = {}
        for name, shape in shapes.items():
            n = math.prod(shape)
            packed = torch.zeros(-(-n // 8), dtype=torch.uint8)
            if name in own and n:
                packed[:] = 255
                packed[-1] = 255 >> (-n % 8)
            bits[name] = packed
        return cls(bits, shapes, _provenance(denoiser, provenance), _drawn_from(own, shapes))

    def random(self, ratio: float, seed: int) -> Mask:
        """⌊ratio·N⌋ of the N weights of this mask's scope, drawn uniformly.

        Args:
            ratio: in (0, 1].
            seed: >= 0; the draw depends on it and on the shapes alone.

        Raises:
            UserError: the ratio is out of range.
        """
        k, scope = _share(ratio, self.size), self.drawn_from()
        numbers = {name: i for i, name in enumerate(scope)}
        provenance = {**self.provenance, "mask": "random", "mask_seed": seed}
        drawn = self._selected(
            scope,
            k,
            None,
            provenance,
            lambda n, out: random_blocks(n, math.prod(scope[n]), out, (seed, numbers[n])),
        )
        bits = {
            n: drawn.bits[n] if n in scope else torch.zeros_like(self.bits[n]) for n in self.bits
        }
        return Mask(bits, self.shapes, provenance, self.names)

    @classmethod
    def _selected(
        cls,
        own: Mapping[str, tuple[int, ...]],
        k: int,
        denoiser: nn.Module | None,
        provenance: Mapping[str, Any] | None,
        blocks: Callable[[str, NDArray[np.uint8]], Iterator[Block]],
    ) -> Mask:
        shapes = _shapes(own, denoiser)
        packed = {n: np.zeros(-(-math.prod(s) // 8), np.uint8) for n, s in shapes.items()}
        select([block for name in own for block in blocks(name, packed[name])], k)
        bits = {name: torch.from_numpy(array) for name, array in packed.items()}
        return cls(bits, shapes, _provenance(denoiser, provenance), _drawn_from(own, shapes))

    def drawn_from(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters that the mask is drawn from."""
        return {n: s for n, s in self.shapes.items() if self.names is None or n in self.names}

    @property
    def count(self) -> int:
        """Number of weights that may move."""
        return sum(map(_ones, self.bits.values()))

    @property
    def size(self) -> int:
        """Number N of weights in the scope."""
        return sum(map(math.prod, self.drawn_from().values()))

    def per_layer(self) -> list[tuple[str, int, int]]:
        """For every parameter of the scope its name, how many weights may move, of how many."""
        scope = self.drawn_from()
        return [(n, _ones(self.bits[n]), math.prod(shape)) for n, shape in scope.items()]

    def dense(self, name: str) -> Tensor:
        """The mask of one parameter: bool, of its shape."""
        return unpack(self.bits[name], self.shapes[name])

    def check_fits(self, denoiser: nn.Module, model: str | None = None) -> None:
        """Refuses a model that the mask was not made for.

        Args:
            denoiser: the base model, before any weight has moved.
            model: its fingerprint, where it is known already; None has it computed.

        Raises:
            UserError: names, shapes or, if the mask records one, the fingerprint differ.
        """
        own = {n: tuple(p.shape) for n, p in denoiser.named_parameters()}
        _same_shapes("The mask", self.shapes, "the model", own)
        expected = self.provenance.get("fingerprint")
        if expected and expected != (model or fingerprint(denoiser)):
            raise UserError(
                "The mask was made for a model with the same architecture but other weights: use "
                "that model, or make a mask for this one."
            )

    def save(self, path: str | Path) -> None:
        """Writes safetensors: a uint8 tensor per parameter; ``shapes``, ``provenance`` and, where
        they are not all, ``names`` as JSON.

        The same mask gives the same bytes, which the safetensors library does not promise: it
        writes metadata in random order.
        """
        header: dict[str, Any] = {
            "__metadata__": {
                "format": "pt",
                "provenance": json.dumps(dict(self.provenance), sort_keys=True),
                "shapes": json.dumps({n: list(s) for n, s in self.shapes.items()}),
            }
        }
        if self.names is not None:
            header["__metadata__"]["names"] = json.dumps(sorted(self.names))
        end = 0
        for name, bits in self.bits.items():
            start, end = end, end + len(bits)
            header[name] = {"dtype": "U8", "shape": [len(bits)], "data_offsets": [start, end]}
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        with atomic(Path(path)) as part, part.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for bits in self.bits.values():
                file.write(bits.cpu().numpy().data)

    @classmethod
    def load(cls, path: str | Path) -> Mask:
        """Reads a file that ``save`` wrote.

        Raises:
            UserError: there is no such file, or it holds no mask.
        """
        from safetensors import safe_open

        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                shapes = {
                    n: tuple(map(index, s)) for n, s in json.loads(metadata["shapes"]).items()
                }
                provenance = dict(json.loads(metadata["provenance"]).items())
                names = frozenset(json.loads(metadata["names"])) if "names" in metadata else None
                if set(file.keys()) != set(shapes) or not (names or set()) <= shapes.keys():
                    raise ValueError("names")
                bits = {name: file.get_tensor(name) for name in shapes}
        except Exception as error:  # whatever a damaged file makes the libraries raise
            raise UserError(
                f"{path} can't be read as a mask ({reason(error)}): give a mask.safetensors that "
                "'erase mask' wrote."
            ) from error
        return cls(bits, shapes, provenance, names)


def union(first: Mask, *others: Mask) -> Mask:
    """The weights that any of the masks lets move.

    Raises:
        UserError: the masks are of different models.
    """
    masks = (first, *others)
    for other in others:
        _same_shapes("One mask", first.shapes, "another", other.shapes)
        if first.provenance.get("fingerprint") != other.provenance.get("fingerprint"):
            raise UserError(
                "The union of masks for different models makes no sense: use one model."
            )
    bits = dict(first.bits)
    for other in others:
        bits = {name: packed | other.bits[name] for name, packed in bits.items()}
    names = frozenset[str]().union(*(m.drawn_from() for m in masks))
    scopes = {m.provenance.get("scope", "full") for m in masks}
    provenance: dict[str, Any] = {"mask": "union"}
    if len(scopes) == 1:
        provenance["scope"] = scopes.pop()
    if "fingerprint" in first.provenance:
        provenance["fingerprint"] = first.provenance["fingerprint"]
    provenance["of"] = [dict(m.provenance) for m in masks]
    return Mask(bits, first.shapes, provenance, _drawn_from(names, first.shapes))


def unpack(bits: Tensor, shape: Sequence[int]) -> Tensor:
    """The bool tensor of ``shape`` that ``bits`` packs, on the same device."""
    n = math.prod(shape)
    if bits.device.type != "cpu":
        return unpack_by_shifts(bits)[:n].reshape(tuple(shape))
    array = np.unpackbits(bits.numpy(), count=n, bitorder="little")  # many times faster
    return torch.from_numpy(array).view(torch.bool).reshape(tuple(shape))


def unpack_by_shifts(bits: Tensor) -> Tensor:
    """The bool tensor (8·len(bits),) that ``bits`` packs, on any device."""
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    return ((bits[:, None] >> places) & 1).view(torch.bool).reshape(-1)


def _same_shapes(
    ours: str,
    a: Mapping[str, tuple[int, ...]],
    theirs: str,
    b: Mapping[str, tuple[int, ...]],
) -> None:
    for name in [*a, *b]:
        if a.get(name) != b.get(name):
            found = [
                f"{who} has {m.get(name, 'no such weights')}" for who, m in ((ours, a), (theirs, b))
            ]
            raise UserError(f"The mask is for another model: at '{name}' {', '.join(found)}.")


def _share(ratio: float, size: int) -> int:
    if not 0 < ratio <= 1:
        raise UserError(f"The ratio {ratio} is not in (0, 1]: 0.5 lets half of the weights move.")
    # As it is written: 0.29 as a binary fraction is a little less, and would lose a weight of 100.
    return math.floor(Fraction(str(ratio)) * size)


def _shapes(
    own: Mapping[str, tuple[int, ...]], denoiser: nn.Module | None
) -> dict[str, tuple[int, ...]]:
    if denoiser is None:
        return dict(own)
    shapes = {name: tuple(p.shape) for name, p in denoiser.named_parameters()}
    for name, shape in own.items():
        if shapes.get(name) != shape:
            raise UserError(
                f"The model has no weights '{name}' of shape {shape}: measure its own saliency."
            )
    return shapes


def _drawn_from(
    names: Collection[str], shapes: Mapping[str, tuple[int, ...]]
) -> frozenset[str] | None:
    return None if len(names) == len(shapes) else frozenset(names)


def _provenance(denoiser: nn.Module | None, given: Mapping[str, Any] | None) -> dict[str, Any]:
    found = dict(given or {})
    if denoiser is not None and "fingerprint" not in found:
        found["fingerprint"] = fingerprint(denoiser)
    return found


def _ones(bits: Tensor) -> int:
    return int(_POPULATION[bits.cpu().numpy()].sum(dtype=np.int64))
