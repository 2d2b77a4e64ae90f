"""Random streams that depend on a key and nothing else."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from erase.runtime.errors import UserError

if TYPE_CHECKING:
    import torch

MAX_SEED = 2**63
"""Seeds lie below: what torch's generators and every reader of run.json hold exactly."""


def checked_seed(seed: int, most: int = MAX_SEED) -> int:
    """The seed.

    Raises:
        UserError: negative, or not below ``most``.
    """
    if not 0 <= seed < most:
        wrong = "negative" if seed < 0 else "too large"
        end = "2^63 - 1" if most == MAX_SEED else f"{most - 1}"
        raise UserError(f"The seed {seed} is {wrong}: give one from 0 to {end}.")
    return seed


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator whose stream is fixed by the key, e.g. (seed, "train", step).

    A resumed run draws what the undisturbed one would have drawn, since every step has a stream
    of its own.
    """
    import numpy as np
    import torch

    numbers = [zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key]
    state = np.random.SeedSequence(numbers).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(state[0]))


def cycle(count: int, batch: int, index: int, *key: int | str) -> torch.Tensor:
    """Indices of batch number ``index`` in an endless run of shuffled passes over ``count`` items.

    Every item comes once per pass and every batch is full, across the borders of passes.

    Returns:
        int64 tensor of shape (batch,).
    """
    import torch

    start = index * batch
    passes = range(start // count, (start + batch - 1) // count + 1)
    orders = [torch.randperm(count, generator=generator(*key, "pass", p)) for p in passes]
    first = start - passes[0] * count
    return torch.cat(orders)[first : first + batch]
