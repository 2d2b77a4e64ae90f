"""Attacks that cost no search, against computations of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.diffusion.revival import revival
from erase.eval.attacks import DoesNotApply, closed_form, prior, round_trip, stock_encoder
from erase.eval.attacks._images import FRESH
from erase.images.request import Sampler
from erase.prompts.concept import Concept
from erase.runtime.seeding import generator
from tests.eval.attacks.church import images_of, target


@pytest.fixture
def edited(tiny_folder: Path) -> Diffusion:
    """One to be changed."""
    return Diffusion.load(str(tiny_folder), "cpu")


@pytest.fixture
def base(tiny_folder: Path) -> Diffusion:
    return Diffusion.load(str(tiny_folder), "cpu")


def test_the_closed_form_is_the_least_squares_solution() -> None:
    g = torch.Generator().manual_seed(0)
    before = {n: torch.randn(6, 4, generator=g) for n in "ab"}
    edited = {n: w + 0.3 * torch.randn(6, 4, generator=g) for n, w in before.items()}
    c = torch.randn(4, generator=g).double()
    # Rows √λ·I·c* = 0 stand for the penalty.
    stacked = torch.cat([*(w.double() for w in edited.values()), 0.1**0.5 * torch.eye(4).double()])
    wanted = torch.cat([*(w.double() @ c for w in before.values()), torch.zeros(4).double()])
    expected = torch.linalg.lstsq(stacked, wanted).solution
    assert torch.allclose(revival(edited, before, 0.1) @ c, expected)


def test_an_edit_of_keys_and_values_is_undone(edited: Diffusion, base: Diffusion) -> None:
    g = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(32, 32, generator=g)).Q
    with torch.no_grad():
        for name, weight in edited.denoiser.named_parameters():
            if name.endswith(closed_form.ENDS):
                weight.copy_(weight @ turn)  # every embedding c now reads as c turned
    small = closed_form.Settings(1e-6)
    plain = target(sampler=Sampler("ddim", 3, 1.0))  # guidance's empty prompt stays turned
    found = closed_form.run(edited, base, plain, small, False, generator(0))
    theirs = images_of(base, ["a drawing of a church"] * 2, [0, 1], plain)
    mine = images_of(edited, ["a drawing of a church"] * 2, [0, 1], plain)
    apart = [np.abs(np.stack(x).astype(int) - np.stack(theirs)) for x in (found.images, mine)]
    assert apart[0].max() <= 2 < apart[1].max()


@pytest.mark.parametrize("part", ["denoiser", "text encoder"])
def test_the_closed_form_is_refused_where_more_was_edited(
    part: str, edited: Diffusion, base: Diffusion
) -> None:
    [(_, encoder)] = edited.text.encoders
    network = edited.denoiser if part == "denoiser" else encoder
    with torch.no_grad():
        next(iter(network.parameters())).add_(1)
    with pytest.raises(DoesNotApply, match="keys and values alone"):
        closed_form.run(edited, base, target(), closed_form.Settings(), False, generator(0))
    bound = target(bound=True)
    found = closed_form.run(edited, base, bound, closed_form.Settings(), False, generator(0))
    assert len(found.images) == 2


def test_int8_has_255_levels_for_each_channel() -> None:
    w = torch.tensor([[1.0, -0.5, 0.003], [0.0, 127.0, 63.4]])
    found = round_trip.int8(w)
    assert torch.allclose(found[0], torch.tensor([1.0, -64 / 127, 0.0]))
    assert torch.allclose(found[1], torch.tensor([0.0, 127.0, 63.0]))
    vector = w[0]
    assert round_trip.int8(vector) is vector


def test_an_edit_below_half_precision_is_rounded_away(edited: Diffusion, base: Diffusion) -> None:
    with torch.no_grad():
        for model in (edited, base):
            for _, encoder in model.text.encoders:
                for parameter in (*model.denoiser.parameters(), *encoder.parameters()):
                    parameter.copy_(parameter.half())
        for parameter in (*edited.denoiser.parameters(), *edited.text.encoders[0][1].parameters()):
            parameter.mul_(1 + 1e-5)
    one = round_trip.Settings(("fp16",))
    found = round_trip.run(edited, base, target(), one, False, generator(0))
    theirs = images_of(base, ["a drawing of a church"] * 2, [0, 1], target())
    assert np.array_equal(np.stack(found.images), np.stack(theirs))
    own = dict(edited.denoiser.named_parameters())
    assert not all(torch.equal(own[n], p) for n, p in base.denoiser.named_parameters())


def test_a_concept_erased_in_the_text_encoder_comes_back(
    edited: Diffusion, base: Diffusion
) -> None:
    same = stock_encoder.Settings()
    with pytest.raises(DoesNotApply, match="nothing to swap"):
        stock_encoder.run(edited, base, target(), same, False, generator(0))
    # A model that never knew the concept has the base's encoder, and bounds all the same.
    bound = stock_encoder.run(edited, base, target(bound=True), same, False, generator(0))
    assert len(bound.images) == 2
    [(tokenizer, encoder)] = edited.text.encoders
    church, truck = tokenizer("church truck", add_special_tokens=False).input_ids
    with torch.no_grad():
        table = encoder.get_input_embeddings().weight
        table[church] = table[truck]
    found = stock_encoder.run(edited, base, target(), same, False, generator(0))
    theirs = images_of(base, ["a drawing of a church"] * 2, [0, 1], target())
    assert np.array_equal(np.stack(found.images), np.stack(theirs))
    mine = images_of(edited, ["a drawing of a church"] * 2, [0, 1], target())
    assert not np.array_equal(np.stack(mine), np.stack(theirs))
    assert edited.text.encoders[0][1] is encoder


def test_the_prior_is_drawn_without_the_name(
    tiny: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[list[str], list[int]]] = []
    real = prior.draw
    monkeypatch.setattr(
        prior,
        "draw",
        lambda m, rows, t: (
            asked.append(([r.prompt for r in rows], [r.seed for r in rows])) or real(m, rows, t)
        ),
    )
    concept = Concept("c", "object", "church", ("a {} icon", "{}, ink"))
    one = replace(target(), concept=concept)
    found = prior.run(tiny, tiny, one, prior.Settings(5), False, generator(0))
    assert found.restarts == 3 and len(found.images) == 6  # whole rounds of two rows
    prompts, seeds = asked[0]
    assert prompts == ["", "an icon", ", ink"] * 2
    assert seeds == [FRESH * (1 + n // 2) + n % 2 for n in range(6)]
    # Those of the rows themselves, for the page.
    assert (found.prompts, found.later) == (["", "an icon"], FRESH)
    with pytest.raises(DoesNotApply, match="its bound is the floor"):
        prior.run(tiny, tiny, one, prior.Settings(5), True, generator(0))
    assert prior.SETTINGS["quick"] is None
