"""Training batches: what a step sees is decided by its number alone."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from erase.diffusion.conditioning import Conditioning
from erase.diffusion.data import Encoded, TrainingData
from tests.tiny import tensor

PROMPTS, EMPTY = Conditioning(torch.ones(3, 7, 2)), Conditioning(torch.zeros(1, 7, 2))


def data(retain_empty: float, batch_size: int = 4, seed: int = 0) -> TrainingData:
    encoded = Encoded(torch.ones(9, 2, 4, 2, 2), torch.arange(9) % 3)
    return TrainingData(
        images={"forget": encoded, "retain": encoded},
        pairs=(("a church", "a truck"),) * 3,
        retain_prompts=("a radio",) * 3,
        words=("church",) * 3,
        c=PROMPTS,
        anchor_c=PROMPTS,
        retain_c=PROMPTS,
        empty_c=EMPTY,
        timesteps=1000,
        batch_size=batch_size,
        seed=seed,
        retain_empty=retain_empty,
    )


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**6), st.floats(0, 1))
def test_a_batch_is_a_function_of_seed_and_step(seed: int, step: int, share: float) -> None:
    first, again = (data(share, seed=seed).batch(step) for _ in range(2))
    for name in vars(first):
        assert torch.equal(tensor(getattr(first, name)), tensor(getattr(again, name)))


def test_the_empty_prompt_takes_its_share_of_the_retained_images() -> None:
    for share in (0.0, 0.3, 1.0):
        drawn = data(share, batch_size=500).batch(1)
        empty = (drawn.retain_c.hidden == 0).all((1, 2)).float().mean().item()
        # Three standard deviations of 500 draws.
        assert abs(empty - share) <= 3 * (share * (1 - share) / 500) ** 0.5
        assert all(bool((c.hidden == 1).all()) for c in (drawn.c, drawn.anchor_c))


def test_the_share_changes_no_other_draw() -> None:
    plain, mixed = data(0.0).batch(7), data(0.9).batch(7)
    assert not torch.equal(plain.retain_c.hidden, mixed.retain_c.hidden)
    for name in set(vars(plain)) - {"retain_c"}:
        assert torch.equal(tensor(getattr(plain, name)), tensor(getattr(mixed, name)))
