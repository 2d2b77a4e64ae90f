"""Attacks that need the weights, against computations of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.eval.attacks import handover, load_attack, noise, relearn
from erase.eval.attacks._drawing import Pictures
from erase.eval.attacks._images import FRESH
from erase.eval.attacks._inverting import Settings as Inverting
from erase.images.request import Sampler
from erase.runtime.seeding import generator
from tests.eval.attacks.church import bright, images_of, target

FORWARDS = 3 * 2
"""Of one image: three steps with guidance."""


def weights(model: Diffusion) -> dict[str, torch.Tensor]:
    return {k: v.clone() for net in model.networks.values() for k, v in net.state_dict().items()}


def test_relearning_is_plain_adam_on_the_base_s_images(tiny: Diffusion) -> None:
    settings = relearn.Settings((0, 1, 2), 2, 1e-2)
    found = relearn.run(tiny, tiny, target(), settings, False, generator(1))
    copy = tiny.frozen()
    unet = copy.denoiser.requires_grad_(True)
    pictures, _ = Pictures.of(tiny, tiny, target().shown, target(), generator(1))
    c = tiny.embed([row.prompt for row in target().shown]).float()
    optimizer = torch.optim.Adam(unet.parameters(), lr=1e-2)
    for _ in range(2):
        index, x_t, t, noise_ = pictures.noised(2)
        loss = (unet(x_t, t, c.hidden[index]).sample - noise_).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    mine = images_of(copy, ["a drawing of a church"] * 2, [0, 1], target())
    apart = np.abs(np.stack(found.images).astype(int) - np.stack(mine).astype(int))
    assert apart.max() <= 1
    assert list(found.curve) == [0, 1, 2] and found.images is found.curve[2]
    before = images_of(tiny, ["a drawing of a church"] * 2, [0, 1], target())
    assert np.array_equal(np.stack(found.curve[0]), np.stack(before))
    # Three gradients a picture; images of two rows three times, and of the three pictures.
    assert found.forwards == 3 * 2 * 2 + 3 * 2 * FORWARDS + 3 * FORWARDS


def test_relearning_others_trains_on_retained_images_alone(
    tiny: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []
    real = relearn.draw
    monkeypatch.setattr(
        "erase.eval.attacks._drawing.draw",
        lambda m, rows, t: asked.append([row.prompt for row in rows]) or real(m, rows, t),
    )
    settings = relearn.Settings((0, 1), 2, 1e-2)
    relearn.run(tiny, tiny, target(), settings, True, generator(1))
    assert asked == [["a truck icon"] * 3]


@pytest.mark.parametrize("name", ["handover", "noise", "relearn", "inversion", "multi-inversion"])
@pytest.mark.parametrize("random", [False, True])
def test_a_model_is_left_as_it_was_and_the_same_seed_finds_the_same(
    tiny: Diffusion, name: str, random: bool
) -> None:
    small: dict[str, Any] = {
        "handover": handover.Settings((0.4,)),
        "noise": noise.Settings((1.2,)),
        "relearn": relearn.Settings((0, 1), 2, 1e-2),
        "inversion": Inverting(restarts=2, steps=2, batch=2, lr=0.01),
        "multi-inversion": Inverting(vectors=3, restarts=2, steps=2, batch=2, lr=0.01),
    }
    before = weights(tiny)
    module = load_attack(name)
    first, again = (
        module.run(tiny, tiny, target(), small[name], random, generator(7)) for _ in range(2)
    )
    assert np.array_equal(np.stack(first.images), np.stack(again.images))
    assert first.forwards == again.forwards > 0
    assert all(torch.equal(before[k], v) for k, v in weights(tiny).items())
    assert not any(p.requires_grad for p in tiny.denoiser.parameters())
    for _, encoder in tiny.text.encoders:
        assert not encoder.get_input_embeddings()._forward_hooks


def test_a_handover_of_all_steps_is_the_base_s_own_image(
    tiny: Diffusion, tiny_v: Diffusion
) -> None:
    found = handover.run(tiny_v, tiny_v, target(), handover.Settings((1.0,)), False, generator(0))
    theirs = images_of(tiny_v, ["a drawing of a church"] * 2, [0, 1], target())
    apart = np.abs(np.stack(found.images).astype(int) - np.stack(theirs).astype(int))
    assert apart.max() <= 1
    assert found.forwards == 2 * FORWARDS


def test_a_handover_ends_with_the_model_and_begins_with_the_base(tiny_folder: Any) -> None:
    base, model = (Diffusion.load(str(tiny_folder), "cpu") for _ in range(2))
    with torch.no_grad():
        for p in model.denoiser.parameters():
            p.mul_(1.2)
    one = handover.Settings((1 / 3,))
    mixed = handover.run(model, base, target(), one, False, generator(0)).images
    alone = images_of(model, ["a drawing of a church"] * 2, [0, 1], target())
    bases = images_of(base, ["a drawing of a church"] * 2, [0, 1], target())
    assert not np.array_equal(np.stack(mixed), np.stack(alone))
    assert not np.array_equal(np.stack(mixed), np.stack(bases))
    wrong = handover.run(model, base, target(), one, True, generator(0)).images
    assert not np.array_equal(np.stack(mixed), np.stack(wrong))


def test_the_best_of_several_tries_is_picked_by_the_judge(tiny: Diffusion) -> None:
    settings = handover.Settings((1 / 3, 2 / 3, 1.0))
    found = handover.run(tiny, tiny, target(), settings, False, generator(0))
    dark = target(judge=lambda images: [1 - p for p in bright(images)])
    other = handover.run(tiny, tiny, dark, settings, False, generator(0))
    for best, worst in zip(bright(found.images), bright(other.images), strict=True):
        assert best >= worst
    assert np.array_equal(np.stack(found.chosen), np.stack(other.chosen))


def test_rows_are_drawn_as_they_say(tiny: Diffusion) -> None:
    [first, second] = target().rows
    mixed = target(rows=[replace(first, guidance=1.0), replace(second, size=(32, 16))])
    plain = target(rows=[first])
    plainly = replace(plain, sampler=replace(plain.sampler, guidance=1.0))
    for module, settings in (
        (handover, handover.Settings((1 / 3,))),
        (noise, noise.Settings((1.0,), (1.0,))),
    ):
        images = module.run(tiny, tiny, mixed, settings, False, generator(0)).images
        expected = module.run(tiny, tiny, plainly, settings, False, generator(0)).images
        assert np.array_equal(images[0], expected[0])
        assert images[1].shape == (32, 16, 3)


def test_shares_that_are_the_same_step_are_tried_once(tiny: Diffusion) -> None:
    spent = [
        handover.run(tiny, tiny, target(), handover.Settings(shares), False, generator(0)).forwards
        for shares in ((1 / 3,), (0.3, 1 / 3, 0.4), (1 / 3, 2 / 3))
    ]
    assert spent[0] == spent[1] == spent[2] / 2


@pytest.mark.parametrize("name", ["handover", "noise"])
def test_random_search_has_as_many_plain_tries(
    name: str, tiny: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of several images of the right prompt shows it without any attack."""
    attack = {"handover": handover, "noise": noise}[name]
    settings = {"handover": handover.Settings((0.3, 0.6)), "noise": noise.Settings((1.0, 1.3))}[
        name
    ]
    prompts = ["a drawing of a church"] * 2
    plain = [images_of(tiny, prompts, [FRESH * i, FRESH * i + 1], target()) for i in (1, 2)]

    def judge(images: Sequence[Any]) -> list[float]:
        """Knows the plain images alone."""
        known = [one.tobytes() for images in plain for one in images]
        return [0.9 if image.tobytes() in known else 0.1 for image in images]

    found = attack.run(tiny, tiny, target(judge=judge), settings, True, generator(0))
    assert np.array_equal(np.stack(found.images), plain[0])
    assert found.forwards == 2 * 2 * 2 * FORWARDS
    alone = attack.run(
        tiny, tiny, replace(target(judge=judge), elsewhere=()), settings, True, generator(0)
    )
    assert np.array_equal(np.stack(alone.images), plain[0])
    assert alone.forwards == 2 * 2 * FORWARDS
    nothing = target(judge=lambda images: [0.1] * len(images))
    wrong = attack.run(tiny, tiny, nothing, settings, True, generator(0))
    assert not np.array_equal(np.stack(wrong.images), plain[0])


def test_noise_without_more_noise_is_ddim(tiny: Diffusion) -> None:
    plain = replace(target(), sampler=Sampler("ddim", 3, 2.0))
    settings = noise.Settings((0.0,), (0.0,))
    found = noise.run(tiny, tiny, plain, settings, False, generator(0))
    theirs = images_of(tiny, ["a drawing of a church"] * 2, [0, 1], plain)
    apart = np.abs(np.stack(found.images).astype(int) - np.stack(theirs).astype(int))
    assert apart.max() <= 1


def test_a_noisy_step_by_hand() -> None:
    x0, e, z = (torch.full((1, 1, 1, 1), value) for value in (2.0, 0.5, -1.0))
    a, b, eta, s = 0.36, 0.64, 1.5, 1.1
    x_t = 0.6 * x0 + 0.8 * e
    sigma = 1.5 * (0.36 / 0.64 * (1 - 0.36 / 0.64)) ** 0.5
    expected = 0.8 * 2.0 + abs(0.36 - sigma**2) ** 0.5 * 0.5 + 1.1 * sigma * -1.0
    assert noise.wandered(x_t, x0, z, a, b, eta, s).item() == pytest.approx(expected, rel=1e-5)
