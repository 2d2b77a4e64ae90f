"""Exact selection of the k largest of many values, a few MB at a time.

Nothing is copied or sorted as a whole: a sample brackets the k-th largest key, one pass counts
what lies above the bracket and gathers what lies inside it, and a second one writes the bits.
Where the sample misleads (adversarial order, many ties), the bracket is halved until its content
is small, at most 32 times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from erase.runtime.errors import UserError

BLOCK = 1 << 19
"""Values per block: a multiple of 8, so that blocks of one tensor pack into whole bytes."""

_INFINITY = 0x7F800000
"""Bits of the float32 infinity; every finite magnitude has a smaller key."""

_SAMPLE = 1 << 19
_KEPT = 128
"""At most one key in this many is gathered: 0.8 % of the memory of the values."""

Keys = NDArray[np.int32]


@dataclass(frozen=True)
class Block:
    """A piece of the values, and the place for its part of the answer.

    Attributes:
        name: for error messages.
        size: number of values, at most ``BLOCK``.
        read: ``read(s, scratch)`` puts every s-th key at the start of ``scratch`` and returns that
            part: int32 in [0, 2^31), the same at every call.
        out: uint8 (⌈size/8⌉,), receives one bit per value, little-endian.
    """

    name: str
    size: int
    read: Callable[[int, Keys], Keys]
    out: NDArray[np.uint8]


def magnitude_blocks(
    name: str, values: Tensor | NDArray[np.float32], out: NDArray[np.uint8]
) -> Iterator[Block]:
    """Cuts a float32 tensor of any shape and device into blocks keyed by magnitude.

    The bits of non-negative floats, read as integers, have the floats' own order. A tensor on an
    accelerator is read block by block through the host.
    """
    flat = values.detach().reshape(-1) if isinstance(values, Tensor) else values.reshape(-1)

    def read(start: int, step: int, scratch: Keys) -> Keys:
        part = flat[start : start + BLOCK : step]
        array = part.cpu().numpy() if isinstance(part, Tensor) else part
        keys = scratch[: len(array)]
        np.abs(array, out=keys.view(np.float32))
        return keys

    yield from _cut(name, math.prod(flat.shape), read, out)


def random_blocks(
    name: str, size: int, out: NDArray[np.uint8], seed: Sequence[int]
) -> Iterator[Block]:
    """Blocks of independent uniform keys that depend on ``seed`` alone; nothing is stored."""

    def read(start: int, step: int, scratch: Keys) -> Keys:
        count = min(BLOCK, size - start)
        stream = np.random.PCG64(np.random.SeedSequence([*seed, start // BLOCK]))
        words = stream.random_raw((count + 1) // 2).view(np.uint32)[:count:step]
        keys = scratch[: len(words)]
        # 30 bits: below infinity's, and a tie at the threshold concerns one weight in 10^9.
        np.right_shift(words, np.uint32(2), out=keys.view(np.uint32))
        return keys

    yield from _cut(name, size, read, out)


def _cut(
    name: str, size: int, read: Callable[[int, int, Keys], Keys], out: NDArray[np.uint8]
) -> Iterator[Block]:
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        yield Block(
            name,
            stop - start,
            lambda step, scratch, start=start: read(start, step, scratch),  # type: ignore[misc]
            out[start // 8 : -(-stop // 8)],
        )


def select(blocks: Sequence[Block], k: int) -> None:
    """Sets the bits of the k largest keys; of equal keys the earlier ones are taken.

    Args:
        blocks: in the order that decides between equal keys.
        k: number of bits to set, in [0, total size].

    Raises:
        UserError: a value is NaN or infinite.
    """
    total = sum(b.size for b in blocks)
    if not 0 <= k <= total:
        raise ValueError(f"can't choose {k} of {total}")
    if k == 0:
        for block in blocks:
            block.out[:] = 0
        return
    scratch = np.empty(max(b.size for b in blocks), np.int32)
    threshold, above, ties = _threshold(blocks, k, total, scratch)
    left = k - above
    all_ties = ties == left
    for block in blocks:
        keys = block.read(1, scratch)
        if all_ties:
            marked = keys >= threshold
        else:
            marked = keys > threshold
            if left:
                taken = np.flatnonzero(keys == threshold)[:left]
                marked[taken] = True
                left -= len(taken)
        block.out[:] = np.packbits(marked, bitorder="little")


def _threshold(blocks: Sequence[Block], k: int, total: int, scratch: Keys) -> tuple[int, int, int]:
    """The k-th largest key t, the number of keys above it, and the number equal to it."""
    # The threshold lies in [floor, ceiling); the bracket [low, high) is where it is looked for.
    floor, ceiling = 0, _INFINITY
    low, high = _guess(blocks, k / total, total, scratch)
    while True:
        single = high - low == 1  # one key: its count is all there is to know
        limit = 0 if single else total // _KEPT
        at_low, at_high, inside = _scan(blocks, low, high, limit, scratch)
        if at_high < k <= at_low:
            if single:
                return low, at_high, at_low - at_high
            if inside is not None:
                place = len(inside) - (k - at_high)
                inside.partition(place)
                threshold = int(inside[place])
                above = at_high + int(np.count_nonzero(inside > threshold))
                return threshold, above, int(np.count_nonzero(inside == threshold))
        for edge, count in ((low, at_low), (high, at_high)):
            if count >= k:
                floor = max(floor, edge)
            else:
                ceiling = min(ceiling, edge)
        low, high = (floor + ceiling) // 2, ceiling


def _scan(
    blocks: Sequence[Block], low: int, high: int, limit: int, scratch: Keys
) -> tuple[int, int, Keys | None]:
    """Numbers of keys >= low and >= high, and the keys between; None if more than ``limit``."""
    above_low, above_high = (np.empty(len(scratch), bool) for _ in range(2))
    inside = np.empty(limit, np.int32)
    at_low = at_high = 0
    for block in blocks:
        keys = block.read(1, scratch)
        if keys.max() >= _INFINITY:
            raise UserError(
                f"The saliency of '{block.name}' is not finite: measure it in fp32, or check "
                "why the loss overflows."
            )
        a = np.greater_equal(keys, low, out=above_low[: len(keys)])
        b = np.greater_equal(keys, high, out=above_high[: len(keys)])
        start = at_low - at_high
        at_low += int(np.count_nonzero(a))
        at_high += int(np.count_nonzero(b))
        if start < at_low - at_high <= limit:
            inside[start : at_low - at_high] = keys[np.not_equal(a, b, out=a)]
    return at_low, at_high, inside[: at_low - at_high] if at_low - at_high <= limit else None


def _guess(blocks: Sequence[Block], share: float, total: int, scratch: Keys) -> tuple[int, int]:
    """A bracket [low, high) that very likely holds the threshold, from half a million keys.

    Args:
        blocks: the keys.
        share: k over the number of keys, in (0, 1].
        total: number of keys.
        scratch: room for a block.
    """
    step = max(1, total // _SAMPLE)
    while math.gcd(step, 210) > 1:  # a step that divides a layer's width would see one column only
        step += 1
    sample = np.sort(np.concatenate([b.read(step, scratch).copy() for b in blocks]))
    place = len(sample) * (1 - share)
    margin = 2 * math.sqrt(len(sample))  # four standard deviations of a quantile, at most
    first, last = math.floor(place - margin), math.ceil(place + margin)
    low = int(sample[first]) if first >= 0 else 0
    high = int(sample[last]) + 1 if last < len(sample) else _INFINITY
    return low, high
