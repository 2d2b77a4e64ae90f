"""Random streams that depend on a key and nothing else."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator whose stream is fixed by the key, e.g. (seed, "train", step).

    A resumed run draws what the undisturbed one would have drawn, since every step has a stream
    of its own.
    """
    numbers = [zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key]
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(state[0]))


def cycle(count: int, batch: int, index: int, *key: int | str) -> torch.Tensor:
    """Indices of batch number ``index`` in an endless run of shuffled passes over ``count`` items.

    Every item comes once per pass and every batch is full, across the borders of passes.

    Returns:
        int64 tensor of shape (batch,).
    """
    start = index * batch
    passes = range(start // count, (start + batch - 1) // count + 1)
    orders = [torch.randperm(count, generator=generator(*key, "pass", p)) for p in passes]
    first = start - passes[0] * count
    return torch.cat(orders)[first : first + batch]
