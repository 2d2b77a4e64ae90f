"""Speed and memory of the mask: ``python -m benchmarks.mask``.

Two figures, both against something plain in the same process:

- The mask of N random values (SD 1.4's denoiser has 860 M) in units of one ``numpy.copyto`` of
  the same array into one already touched, that is, of the memory's own speed.
- The extra memory: how far the process's peak resident memory (``ru_maxrss``, which counts numpy,
  torch and threads alike) rises above what it was with nothing but the values in memory. The
  array to copy into is only made afterwards, so that its memory can't hide the rise. The packed
  mask is part of it and takes 1/32 of the values' memory, 3.1 %.

Beside it, the published way at a smaller size in a process of its own, with its own peak: two
``argsort`` of all values and an int64 mask.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from erase.unlearn.mask import Mask

T = TypeVar("T")


def peak_bytes() -> int:
    """Most resident memory this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def timed(function: Callable[[], T]) -> tuple[float, T]:
    """Seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def values(size: int) -> NDArray[np.float32]:
    """Random float32 in [0, 1)."""
    return np.random.default_rng(0).random(size, dtype=np.float32)


def copy_seconds(array: NDArray[np.float32], repeats: int) -> float:
    """Best time of one ``numpy.copyto`` into a touched array."""
    target = np.empty_like(array)
    target.fill(1)
    return min(timed(lambda: np.copyto(target, array))[0] for _ in range(repeats))


def measure(size: int, ratio: float, repeats: int) -> dict[str, float]:
    """Time, extra memory and file size of the mask over ``size`` values."""
    Mask.top({"w": values(1 << 16)}, ratio)  # imports, threads and allocator, once
    array = values(size)
    before = peak_bytes()
    first, mask = timed(lambda: Mask.top({"w": array}, ratio))
    extra = peak_bytes() - before
    again = [timed(lambda: Mask.top({"w": array}, ratio))[0] for _ in range(repeats - 1)]
    seconds = min([first, *again])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mask.safetensors"
        mask.save(file)
        file_bytes = file.stat().st_size
    copy = copy_seconds(array, repeats)
    return {
        "size": size,
        "ratio": ratio,
        "seconds": seconds,
        "copyto_seconds": copy,
        "times_copyto": seconds / copy,
        "extra_memory": extra / array.nbytes,
        "file_mb": file_bytes / 1e6,
        "exact": mask.count == int(ratio * size),
    }


def by_double_argsort(array: NDArray[np.float32], k: int) -> torch.Tensor:
    """Rank of every value by sorting its sorting order; 1 where the rank is below k, as int64."""
    negated = -torch.from_numpy(array)
    ranks = torch.argsort(torch.argsort(negated, stable=True))
    return (ranks < k).long()


def measure_reference(size: int, ratio: float) -> dict[str, float | bool]:
    """The published way, and whether ours marks the same weights."""
    by_double_argsort(values(1 << 16), 1)
    array = values(size)
    before = peak_bytes()
    seconds, expected = timed(lambda: by_double_argsort(array, int(ratio * size)))
    extra = peak_bytes() - before
    ours, mask = timed(lambda: Mask.top({"w": array}, ratio))
    return {
        "size": size,
        "seconds": seconds,
        "times_copyto": seconds / copy_seconds(array, 3),
        "times_ours": seconds / ours,
        "bytes_per_weight": extra / size + 4,  # the values themselves are held as well
        "same_mask": torch.equal(expected.bool(), mask.dense("w")),
    }


def main() -> None:
    """Prints a line for people and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=860_000_000, help="number of values")
    parser.add_argument("--reference-size", type=int, default=50_000_000, help="for the argsort")
    parser.add_argument("--ratio", type=float, default=0.5, help="share marked, in (0, 1]")
    parser.add_argument("--repeats", type=int, default=3, help="the best of so many is taken")
    args = parser.parse_args()
    # First, and in a process of its own: a peak, even a parent's, hides all that stays below it.
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        plain = pool.apply(measure_reference, (args.reference_size, args.ratio))
    ours = measure(args.size, args.ratio, args.repeats)
    print(
        f"mask of {args.size / 1e6:.0f} M values: {ours['seconds']:.2f} s, "
        f"{ours['times_copyto']:.1f} x copyto (bar 10), {ours['extra_memory']:.1%} extra memory "
        f"(bar 5 %), file {ours['file_mb']:.1f} MB; double argsort of "
        f"{args.reference_size / 1e6:.0f} M: {plain['times_copyto']:.0f} x copyto, "
        f"{plain['times_ours']:.0f} x ours, {plain['bytes_per_weight']:.0f} bytes per weight, "
        f"{'same' if plain['same_mask'] else 'ANOTHER'} mask"
    )
    print(json.dumps({"mask": ours, "double_argsort": plain}))


if __name__ == "__main__":
    main()
