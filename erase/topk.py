"""Exact selection of the k largest of many values, a few MB at a time.

No value is copied or sorted as a whole: the k-th largest key is bracketed from a sample, the
bracket is verified by counting, and only what lies inside it is gathered. Where the sample
misleads (adversarial order, many ties), the bracket is halved until it is small, which ends after
at most 31 counts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from erase.errors import UserError

BLOCK = 1 << 19
"""Values per block: a multiple of 8, so that blocks of one tensor pack into whole bytes."""

_INFINITY = 0x7F800000
"""Bits of the float32 infinity; every finite magnitude has a smaller key."""

_SAMPLE = 1 << 20
_KEPT = 128
"""At most one value in this many is gathered: 0.8 % of the memory of the values."""


@dataclass(frozen=True)
class Block:
    """A piece of the values, and the place for its part of the answer.

    Attributes:
        name: for error messages.
        size: number of values.
        read: ``read(s)`` gives every s-th key, int32 in [0, 2^31), the same at every call.
        out: uint8 (⌈size/8⌉,), receives one bit per value, little-endian.
    """

    name: str
    size: int
    read: Callable[[int], NDArray[np.int32]]
    out: NDArray[np.uint8]


def magnitude_blocks(
    name: str, values: Tensor | NDArray[np.float32], out: NDArray[np.uint8]
) -> Iterator[Block]:
    """Cuts a float32 tensor of any shape and device into blocks keyed by magnitude.

    The bits of non-negative floats, read as integers, have the floats' own order. A tensor on an
    accelerator is read block by block through the host.
    """
    flat = values.detach().reshape(-1) if isinstance(values, Tensor) else values.reshape(-1)
    size = math.prod(flat.shape)

    def read(start: int, step: int) -> NDArray[np.int32]:
        part = flat[start : start + BLOCK : step]
        array = part.cpu().numpy() if isinstance(part, Tensor) else part
        return np.abs(array).view(np.int32)

    yield from _cut(name, size, read, out)


def random_blocks(
    name: str, size: int, out: NDArray[np.uint8], seed: Sequence[int]
) -> Iterator[Block]:
    """Blocks of independent uniform keys that depend on ``seed`` alone; nothing is stored."""

    def read(start: int, step: int) -> NDArray[np.int32]:
        count = min(BLOCK, size - start)
        stream = np.random.PCG64(np.random.SeedSequence([*seed, start // BLOCK]))
        words = stream.random_raw((count + 1) // 2).view(np.uint32)[:count]
        # 30 bits: below infinity's, and a tie at the threshold concerns one weight in 10^9.
        return (words >> np.uint32(2)).view(np.int32)[::step]

    yield from _cut(name, size, read, out)


def _cut(
    name: str,
    size: int,
    read: Callable[[int, int], NDArray[np.int32]],
    out: NDArray[np.uint8],
) -> Iterator[Block]:
    for start in range(0, size, BLOCK):
        stop = min(start + BLOCK, size)
        yield Block(
            name,
            stop - start,
            lambda step, start=start: read(start, step),  # type: ignore[misc]
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
    if not 0 <= k <= sum(b.size for b in blocks):
        raise ValueError(f"can't choose {k} of {sum(b.size for b in blocks)}")
    if k == 0:
        for block in blocks:
            block.out[:] = 0
        return
    threads = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        threshold, above, ties = _threshold(blocks, k, pool)
        if above + ties == k:
            list(pool.map(lambda b: _write(b, b.read(1) >= threshold), blocks))
            return
        counts = list(pool.map(lambda b: np.count_nonzero(b.read(1) == threshold), blocks))
        # How many equal keys each block may take: all, some (in one block), then none.
        left = k - above - np.concatenate([[0], np.cumsum(counts)[:-1]])
        jobs = zip(blocks, counts, np.clip(left, 0, counts).tolist(), strict=True)
        list(pool.map(lambda job: _write_ties(threshold, *job), jobs))


def _threshold(blocks: Sequence[Block], k: int, pool: ThreadPoolExecutor) -> tuple[int, int, int]:
    """The k-th largest key t, the number of keys above it, and the number equal to it."""
    total = sum(b.size for b in blocks)
    # At all times: count(key >= low) = at_low >= k > at_high = count(key >= high).
    low, at_low, high, at_high = 0, total, _INFINITY, 0
    pivots = _guess(blocks, k / total, total, pool)
    while high - low > 1 and at_low - at_high > total // _KEPT:
        counts = list(pool.map(partial(_counts, pivots=(*pivots, _INFINITY)), blocks))
        for block, count in zip(blocks, counts, strict=True):
            if count[-1]:
                raise UserError(
                    f"The saliency of '{block.name}' is not finite: measure it in fp32, or find "
                    "out why the loss overflows."
                )
        for pivot, count in zip(pivots, np.sum(counts, axis=0)[:-1].tolist(), strict=True):
            if count >= k and pivot > low:
                low, at_low = pivot, count
            elif count < k and pivot < high:
                high, at_high = pivot, count
        pivots = [(low + high) // 2]
    if high - low == 1:
        return low, at_high, at_low - at_high

    def inside(block: Block) -> NDArray[np.int32]:
        keys = block.read(1)
        return keys[(keys >= low) & (keys < high)]

    kept = np.concatenate(list(pool.map(inside, blocks)))
    place = len(kept) - (k - at_high)
    kept.partition(place)
    threshold = int(kept[place])
    above = at_high + int(np.count_nonzero(kept > threshold))
    return threshold, above, int(np.count_nonzero(kept == threshold))


def _guess(
    blocks: Sequence[Block], share: float, total: int, pool: ThreadPoolExecutor
) -> list[int]:
    """Keys that very likely enclose the threshold, from about a million of the keys.

    Args:
        blocks: the keys.
        share: k over the number of keys, in (0, 1].
        total: number of keys.
        pool: threads that read the blocks.
    """
    step = max(1, total // _SAMPLE)
    while math.gcd(step, 210) > 1:  # a step that divides a layer's width would see one column only
        step += 1
    sample = np.sort(np.concatenate(list(pool.map(lambda b: b.read(step), blocks))))
    place = len(sample) * (1 - share)
    margin = 2 * math.sqrt(len(sample))  # four standard deviations of a quantile, at most
    last = len(sample) - 1
    low = sample[min(max(int(place - margin), 0), last)]
    high = sample[min(int(place + margin) + 1, last)]
    return [int(low), int(high) + 1]


def _counts(block: Block, pivots: Sequence[int]) -> NDArray[np.int64]:
    keys = block.read(1)
    return np.array([np.count_nonzero(keys >= p) for p in pivots], dtype=np.int64)


def _write_ties(threshold: int, block: Block, ties: int, taken: int) -> None:
    keys = block.read(1)
    marked = keys >= threshold if taken == ties else keys > threshold
    if 0 < taken < ties:
        marked[np.flatnonzero(keys == threshold)[:taken]] = True
    _write(block, marked)


def _write(block: Block, marked: NDArray[np.bool_]) -> None:
    block.out[:] = np.packbits(marked, bitorder="little")
