"""TINA: an image goes to noise and comes back, for ε and v alike, and what that costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from erase.diffusion.model import Diffusion
from erase.eval.attacks.latent import SETTINGS, Settings, denoise, invert, run, scramble
from erase.images.request import Sampler, Shot
from tests.eval.attacks.targets import seeded, target


@pytest.mark.parametrize("name", ["tiny", "tiny_v"])
def test_an_image_comes_back(name: str, request: pytest.FixtureRequest) -> None:
    model: Diffusion = request.getfixturevalue(name)
    x_0 = torch.randn(2, 4, 8, 8, generator=seeded())
    found = {k: denoise(model, invert(model, x_0, Settings(2, k)), 2) for k in (1, 4, 16)}
    far = {k: float((x - x_0).norm() / x_0.norm()) for k, x in found.items()}
    assert far[1] > 0.1 and far[4] < 0.5 * far[1] and far[16] < 0.05 * far[1]


def test_two_steps_by_hand(tiny: Diffusion) -> None:
    """From one level to another, x_0 = (z - √(1-ᾱ) ε)/√ᾱ is noised again: there as back."""
    sampler = tiny.family.sampler("ddim")
    sampler.set_timesteps(2)
    late, early = sampler.timesteps.tolist()
    assert (late, early) == (501, 1)
    levels = {t: sampler.alphas_cumprod[t] for t in (late, early)} | {0: sampler.alphas_cumprod[0]}

    def moved(z: torch.Tensor, t: int, now: int, then: int) -> torch.Tensor:
        with torch.no_grad():
            e = tiny.predict(z, torch.tensor([t]), tiny.unconditional())
        x = (z - (1 - levels[now]).sqrt() * e) / levels[now].sqrt()
        return levels[then].sqrt() * x + (1 - levels[then]).sqrt() * e

    z = torch.randn(1, 4, 8, 8, generator=seeded())
    x = moved(moved(z, late, late, early), early, early, 0)
    torch.testing.assert_close(denoise(tiny, z, 2), x, rtol=1e-4, atol=1e-4)
    # With K = 1 the prediction is that at the cleaner end.
    back = moved(moved(x, early, 0, early), late, early, late)
    torch.testing.assert_close(invert(tiny, x, Settings(2, 1)), back, rtol=1e-4, atol=1e-4)


def test_what_it_costs_and_makes(tiny: Diffusion, tiny_v: Diffusion) -> None:
    given = target(3, guidance=2.0)
    own = Settings(steps=2, iterations=3)
    found, mixed = (run(tiny_v, tiny, given, own, random, seeded()) for random in (False, True))
    # The base's guided images, then three forwards a step there and one back.
    assert found.forwards == mixed.forwards == 3 * (2 * 2) + 3 * 2 * (3 + 1)
    assert not found.prompts and not found.fresh
    shots = [Shot(row.prompt, row.seed) for row in given.rows]
    g = seeded()
    expected: dict[bool, list[NDArray[np.uint8]]] = {False: [], True: []}
    for group in (shots[:2], shots[2:]):
        x_0 = tiny.encode(tiny.sample(group, given.sampler))[:, 0]
        for random, x in ((False, x_0), (True, scramble(x_0, g))):
            expected[random] += list(tiny_v.decode(denoise(tiny_v, invert(tiny_v, x, own), 2)))
    np.testing.assert_array_equal(found.images, expected[False])
    np.testing.assert_array_equal(mixed.images, expected[True])
    assert (np.stack(found.images) != np.stack(mixed.images)).mean() > 0.1


def test_patches_change_places_and_nothing_else() -> None:
    x = torch.arange(2 * 4 * 16 * 24).reshape(2, 4, 16, 24).float()
    mixed = scramble(x, seeded())

    def patches(x: torch.Tensor, row: int) -> set[tuple[float, ...]]:
        return {
            tuple(x[row, :, i : i + 2, j : j + 3].flatten().tolist())
            for i in range(0, 16, 2)
            for j in range(0, 24, 3)
        }

    for row in range(2):
        assert patches(mixed, row) == patches(x, row)
        assert (mixed[row, 0] != x[row, 0]).float().mean() > 0.9
    assert not torch.equal(mixed[0], mixed[1] - x[1].min())
    # A latent of 64 in patches of 8 x 8; one smaller than the patches are many, point by point.
    large = torch.arange(64.0 * 64).reshape(1, 1, 64, 64)
    assert (scramble(large, seeded())[0, 0].diff(dim=1) == 1).sum() >= 64 * 56
    small = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert sorted(scramble(small, seeded()).flatten().tolist()) == list(range(16))


@pytest.mark.slow
def test_the_bundled_base_finds_its_own_images_again() -> None:
    """At what the quick budget spends: not to the last pixel, but nearer than any other image."""
    base = Diffusion.load("mini", "cpu")
    shots = [
        Shot(f"an ink drawing of a {word}", seed)
        for seed, word in enumerate(("church", "radio", "truck"))
    ]
    x_0 = base.encode(base.sample(shots, Sampler(steps=15, guidance=3.0)))[:, 0]
    quick = SETTINGS["quick"]
    found = denoise(base, invert(base, x_0, quick), quick.steps)
    apart = torch.cdist(found.flatten(1), x_0.flatten(1))
    assert apart.argmin(1).tolist() == [0, 1, 2]
    scale = torch.cdist(x_0.flatten(1), x_0.flatten(1))
    assert float(apart.diag().max()) < 0.5 * float(scale[scale > 0].min())
