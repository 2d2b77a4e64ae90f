"""Streams depend on their key; batches cover every item."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from erase.runtime.seeding import cycle, generator


def test_a_stream_is_fixed_by_its_whole_key() -> None:
    def draw(*key: int | str) -> list[float]:
        return torch.rand(4, generator=generator(*key)).tolist()

    assert draw(0, "train", 3) == draw(0, "train", 3)
    others = [draw(1, "train", 3), draw(0, "images", 3), draw(0, "train", 4), draw(0, "train")]
    assert all(o != draw(0, "train", 3) for o in others)


@given(
    count=st.integers(1, 40),
    batch=st.integers(1, 50),
    seed=st.integers(0, 2**40),
    passes=st.integers(1, 3),
)
def test_batches_are_full_and_every_item_comes_once_per_pass(
    count: int, batch: int, seed: int, passes: int
) -> None:
    steps = -(-count * passes // batch)
    drawn = [cycle(count, batch, step, seed, "x") for step in range(steps)]
    assert all(len(d) == batch for d in drawn)
    stream = torch.cat(drawn)[: count * passes].view(passes, count)
    for one in stream:
        assert sorted(one.tolist()) == list(range(count))
