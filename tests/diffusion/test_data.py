"""Training batches: what a step sees is decided by its number alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erase.diffusion.conditioning import Conditioning
from erase.diffusion.data import Encoded, Noised, TrainingData
from erase.diffusion.model import Diffusion
from erase.prompts.groups import Role
from erase.runtime.seeding import cycle, generator
from erase.unlearn.parts import shares
from tests.methods.data import make_data
from tests.tiny import tensor

PROMPTS, EMPTY = Conditioning(torch.ones(3, 7, 2)), Conditioning(torch.zeros(1, 7, 2))


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> Diffusion:
    return Diffusion.load(str(tiny_folder))


def data(model: Diffusion, retain_empty: float, batch_size: int = 4, seed: int = 0) -> TrainingData:
    encoded = Encoded(torch.ones(9, 2, 4, 2, 2), torch.arange(9) % 3)
    return TrainingData(
        diffusion=model,
        images={"forget": encoded, "retain": encoded},
        pairs=(("a church", "a truck"),) * 3,
        retain_prompts=("a radio",) * 3,
        words=("church",) * 3,
        c=PROMPTS,
        anchor_c=PROMPTS,
        retain_c=PROMPTS,
        empty_c=EMPTY,
        batch_size=batch_size,
        seed=seed,
        retain_empty=retain_empty,
    )


def assert_equal(a: Noised, b: Noised, *but: str) -> None:
    for name in set(vars(a)) - set(but):
        assert torch.equal(tensor(getattr(a, name)), tensor(getattr(b, name))), name


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**6), st.floats(0, 1))
def test_a_batch_is_a_function_of_seed_and_step(
    model: Diffusion, seed: int, step: int, share: float
) -> None:
    first, again = (data(model, share, seed=seed).batch(step) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert_equal(a, b)


def test_the_empty_prompt_takes_its_share_of_the_retained_images(model: Diffusion) -> None:
    for share in (0.0, 0.3, 1.0):
        forget, retain = data(model, share, batch_size=500).batch(1)
        empty = (retain.c.hidden == 0).all((1, 2)).float().mean().item()
        # Three standard deviations of 500 draws.
        assert abs(empty - share) <= 3 * (share * (1 - share) / 500) ** 0.5
        assert bool((forget.c.hidden == 1).all())


def test_the_share_changes_no_other_draw(model: Diffusion) -> None:
    plain, mixed = (data(model, share).batch(7) for share in (0.0, 0.9))
    assert not torch.equal(plain[1].c.hidden, mixed[1].c.hidden)
    assert_equal(plain[0], mixed[0])
    assert_equal(plain[1], mixed[1], "c")


@pytest.mark.parametrize("name", ["tiny", "tiny_v"])
def test_images_are_noised_and_their_target_is_the_perfect_denoisers(
    name: str, request: pytest.FixtureRequest
) -> None:
    """x_t = √ᾱ x_0 + √(1-ᾱ) ε; the target ε, or v = √ᾱ ε - √(1-ᾱ) x_0."""
    d: Diffusion = request.getfixturevalue(name)
    own = make_data(d, "forget", "retain", "anchor")
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)

    def check(b: Noised, drawn: torch.Tensor, jitter: torch.Tensor, noise: torch.Tensor) -> None:
        a = abar[b.t].view(-1, 1, 1, 1)
        x0 = drawn[:, 0] + drawn[:, 1] * jitter
        torch.testing.assert_close(b.x_t, a.sqrt() * x0 + (1 - a).sqrt() * noise)
        v = a.sqrt() * noise - (1 - a).sqrt() * x0
        torch.testing.assert_close(b.target, v if name == "tiny_v" else noise)

    g, found = generator(0, "train", 3), own.batch(3)
    roles: tuple[Role, ...] = ("forget", "retain")
    for role, b, c in zip(roles, found, (own.c, own.retain_c), strict=True):
        rows = cycle(5, 2, 3, 0, role)
        check(b, own.images[role].posterior[rows], *torch.randn(2, 2, 4, 8, 8, generator=g))
        assert torch.equal(b.prompt, rows % 2)
        assert torch.equal(b.c.hidden, c[b.prompt].hidden)
    times = torch.randint(1000, (2, 2), generator=g)
    assert torch.equal(torch.stack([b.t for b in found]), times)

    g, b = generator(0, "inversion", "anchor", 3), own.draw("anchor", 3, purpose="inversion")
    rows = cycle(5, 2, 3, 0, "inversion", "anchor")
    check(b, own.images["anchor"].posterior[rows], *torch.randn(2, 2, 4, 8, 8, generator=g))
    assert torch.equal(b.t, torch.randint(1000, (2,), generator=g))
    assert torch.equal(b.prompt, rows % 2)


def test_parts_hold_every_row_once(tiny: Diffusion) -> None:
    own = make_data(tiny, "forget", "retain", batch_size=12)
    whole = own.batch(3)
    parts = [own.batch(3, part) for index in range(2) for part in shares(3, index, 2)]
    assert {len(b.t) for pair in parts for b in pair} == {2}
    every = torch.cat([forget.x_t for forget, _ in parts])
    order = [int((whole[0].x_t == row).flatten(1).all(1).nonzero()) for row in every]
    assert sorted(order) == list(range(12))
    for name in ("t", "prompt", "target", "x_t"):
        seen = torch.cat([getattr(retain, name) for _, retain in parts])
        assert torch.equal(seen, getattr(whole[1], name)[order]), name
