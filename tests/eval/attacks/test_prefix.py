"""UnlearnDiffAtk: the projection, the gradient, what is drawn, when a row ends, what it cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from erase.diffusion.model import Diffusion
from erase.diffusion.tokens import padded, read
from erase.eval.attacks import prefix
from erase.eval.attacks._images import FRESH, latents
from erase.eval.attacks._simplex import pick, project
from erase.eval.attacks._text import spell, typed
from erase.images.request import Shot
from tests.eval.attacks.targets import Told, seeded, target

SMALL = prefix.Settings(tokens=2, timesteps=2, iterations=1)


@pytest.mark.parametrize(
    ("v", "nearest"),
    [
        ([0.6, 0.4, 0.3], [0.5, 0.3, 0.2]),
        ([2.0, 0.0, -1.0], [1.0, 0.0, 0.0]),
        ([1.0, 0.9, -5.0], [0.55, 0.45, 0.0]),
        ([-7.0, -7.0, -7.0], [1 / 3, 1 / 3, 1 / 3]),
        ([1e6, 1e6, 0.0], [0.5, 0.5, 0.0]),
    ],
)
def test_the_nearest_distribution_by_hand(v: list[float], nearest: list[float]) -> None:
    torch.testing.assert_close(project(torch.tensor(v)), torch.tensor(nearest))


def test_the_nearest_distribution_by_sorting() -> None:
    """Duchi et al., 2008: the largest ρ with v_ρ > (Σ_{i<=ρ} v_i - 1)/ρ, in descending order."""
    v = (
        torch.randn(4, 3, 2000, generator=seeded())
        * torch.tensor([1e-3, 0.01, 1, 30])[:, None, None]
    )
    found = project(v).double()
    for row, own in zip(v.double().flatten(0, 1), found.flatten(0, 1), strict=True):
        down = row.sort(descending=True).values
        level = (down.cumsum(0) - 1) / torch.arange(1, len(row) + 1)
        rho = int((down > level).nonzero().max())
        torch.testing.assert_close(own, (row - level[rho]).clamp(min=0), atol=2e-6, rtol=0)
        assert abs(float(own.sum()) - 1) < 1e-4


def test_tokens_are_drawn_as_often_as_their_weight_says() -> None:
    u = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]]).expand(1, 4000, 5)
    drawn = pick(u, seeded())
    assert set(drawn.unique().tolist()) == {1, 3}
    # Standard deviation of the share: √(.25·.75/4000) = .007.
    assert abs(float((drawn == 1).float().mean()) - 0.25) < 5 * 0.007


class Given(nn.Module):
    """Input embeddings that are what they are, whatever the ids."""

    def __init__(self, embeddings: Tensor) -> None:
        super().__init__()
        self.embeddings = embeddings

    def forward(self, _: Tensor) -> Tensor:
        return self.embeddings


@pytest.mark.parametrize("name", ["tiny_v", "tiny_xl"])
def test_the_gradient_is_that_through_the_input_embeddings(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Diffusion = request.getfixturevalue(name)
    encoders = [encoder for _, encoder in model.text.encoders]
    tables = [e.get_input_embeddings() for e in encoders]
    vocabulary = torch.arange(1000, 1040)
    short = [table.weight.detach()[vocabulary] for table in tables]
    picked = torch.tensor([[3, 7], [7, 39]])
    bodies = read(model.text, ["a photo of a church", "church"])
    asked = [[*vocabulary[own].tolist(), *body] for own, body in zip(picked, bodies, strict=True)]
    x_0, noise = torch.randn(2, 2, 4, 8, 8, generator=seeded())
    own = prefix.slope(model, asked, picked, short, x_0, noise, 400)
    factor, losses = 2 / float(own.abs().max()), prefix.losses
    monkeypatch.setattr(prefix, "losses", lambda *given: factor * losses(*given))
    cut = prefix.slope(model, asked, picked, short, x_0, noise, 400)

    # By autograd alone, with the one-hot weights u in front of the table.
    u = nn.functional.one_hot(picked, 40).float().requires_grad_()
    ids, _ = padded(model.text, asked)
    at = torch.tensor([400, 400])
    try:
        for encoder, table, v, rows in zip(encoders, tables, short, ids, strict=True):
            parts = [table(rows[:, :1]), u @ v, table(rows[:, 3:])]
            encoder.set_input_embeddings(Given(torch.cat(parts, 1)))
        predicted = model.predict(model.add_noise(x_0, noise, at), at, model.text.encode(ids))
    finally:
        for encoder, table in zip(encoders, tables, strict=True):
            encoder.set_input_embeddings(table)
    loss = (predicted - model.target(x_0, noise, at)).square().mean((1, 2, 3)).sum()
    [plain] = torch.autograd.grad(loss, u)
    torch.testing.assert_close(factor * own, factor * plain, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(cut, (factor * plain).clamp(-1, 1), rtol=1e-3, atol=1e-3)
    assert (cut.abs() == 1).any() and (cut.abs() < 1).any()


@pytest.mark.parametrize(("name", "special"), [("tiny", {49406, 49407}), ("tiny_xl", {0, 49406})])
def test_what_can_be_typed_is_read_as_it_was_drawn(
    name: str, special: set[int], request: pytest.FixtureRequest
) -> None:
    text = request.getfixturevalue(name).text
    vocabulary = typed(text)
    assert special.isdisjoint(vocabulary) and len(vocabulary) > 30_000
    ids = torch.tensor(list(vocabulary))
    asked = ids[torch.randint(len(ids), (1000, 3), generator=seeded())].tolist()
    again = read(text, [spell(text, own) for own in asked])
    same = sum(list(a) == b for a, b in zip(again, asked, strict=True))
    assert same >= 985  # the others have signs that run into each other


def test_a_row_ends_with_its_first_hit_and_all_is_counted(tiny: Diffusion) -> None:
    # Both rows' first images, then the second row's second one.
    judge = Told(0.7, 0.4, 0.3)
    given = target(2, judge)
    found = prefix.run(tiny, tiny, given, SMALL, False, seeded())
    assert [len(images) for images in judge.shown] == [2, 1]
    # x_0; a gradient, two probes and an image for both; the same for one; fresh images.
    assert found.forwards == 2 * 2 + 2 * (3 + 2 + 2) + (3 + 2 + 2) + 2 * 2
    np.testing.assert_array_equal(found.images, judge.shown[0])
    for images, later in ((found.images, 0), (found.fresh, FRESH)):
        shots = [Shot(p, r.seed + later) for p, r in zip(found.prompts, given.rows, strict=True)]
        np.testing.assert_array_equal(images, tiny.sample(shots, given.sampler))
    for prompt, tokens, row in zip(found.prompts, found.tokens, given.rows, strict=True):
        assert prompt.endswith(f" {row.prompt}")
        assert list(tokens) == tiny.text.tokenizer(prompt).input_ids[1:-1]
        assert max(tokens) < 49406
    # The first row has one image only; the second one's own loss knows nothing of the judge.
    np.testing.assert_array_equal(found.chosen[0], found.images[0])
    seconds = [judge.shown[0][1], judge.shown[1][0]]
    assert any(np.array_equal(found.chosen[1], image) for image in seconds)


@pytest.mark.parametrize(
    ("guidance", "iterations", "most", "images"),
    # An image costs 2, or 4 guided; x_0, gradients, one probe, an image.
    [(1.0, 1, 2 + 3 + 1 + 2, 4), (3.0, 2, 4 + 6 + 1 + 4, 4)],
)
def test_random_search_spends_as_much(
    guidance: float, iterations: int, most: int, images: int, tiny: Diffusion
) -> None:
    judges = Told(), Told()
    settings = prefix.Settings(tokens=2, timesteps=1, iterations=iterations)
    learnt, drawn = (
        prefix.run(tiny, tiny, target(1, judge, guidance=guidance), settings, random, seeded())
        for judge, random in zip(judges, (False, True), strict=True)
    )
    one = 2 if guidance == 1 else 4
    assert learnt.forwards == most + one  # and a fresh image
    assert drawn.forwards == images * one and 0 <= images * one - most < one
    assert len(judges[1].shown) == images
    np.testing.assert_array_equal(drawn.chosen[0], judges[1].shown[0][0])


def test_random_search_ends_with_its_first_hit(tiny: Diffusion) -> None:
    judge = Told(0.1, 0.6)
    found = prefix.run(tiny, tiny, target(1, judge), SMALL, True, seeded())
    assert found.forwards == 2 * 2
    np.testing.assert_array_equal(found.images[0], judge.shown[1][0])


def test_learned_words_lower_the_loss(tiny: Diffusion) -> None:
    given = target(1)
    vocabulary = torch.tensor(list(typed(tiny.text)))
    settings = prefix.Settings(tokens=2, timesteps=1, iterations=25)
    x_0, _ = latents(tiny, given.rows, given)
    [[learnt]], _ = prefix.learn(tiny, given, given.rows, x_0, settings, vocabulary, seeded())
    # The attack's own comparison, of prefixes that nothing learned.
    g = seeded()
    noise = prefix.noise_like(x_0, g)
    [t] = prefix.times(1000, 1)
    drawn = torch.randint(len(vocabulary), (40, 2), generator=g)
    prompts = [prefix.before(tiny.text, own, given.rows[0]) for own in vocabulary[drawn].tolist()]
    with torch.no_grad():
        many = [x.expand(41, -1, -1, -1) for x in (x_0, noise)]
        own = prefix.losses(tiny, tiny.embed([learnt.prompt, *prompts]), *many, t)
    assert float(own[0]) == pytest.approx(learnt.loss, rel=1e-4)
    assert own[0] < own[1:].median()


def test_without_the_name_it_still_aims_at_the_concept(
    tiny: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the base the prompts lack the name; the pictures aimed at don't."""
    seen = []
    monkeypatch.setattr(
        prefix, "latents", lambda base, rows, t: seen.append(list(rows)) or latents(base, rows, t)
    )
    given = target(2)
    nameless = [replace(row, prompt="a photo of") for row in given.rows]
    found = prefix.run(
        tiny, tiny, replace(given, rows=nameless, named=False), SMALL, False, seeded()
    )
    assert [row.prompt for row in seen[0]] == [row.prompt for row in given.rows]
    assert all(prompt.endswith("a photo of") for prompt in found.prompts)


def test_timesteps_of_the_authors() -> None:
    assert prefix.times(1000, 50) == list(range(10, 1000, 20))


@pytest.mark.parametrize(("kind", "count"), [("object", 1), ("nudity", 3)])
def test_nudity_takes_more_words_than_an_object(kind: str, count: int, tiny: Diffusion) -> None:
    given = target(1)
    given = replace(given, concept=replace(given.concept, kind=kind))
    settings = prefix.Settings(tokens=1, timesteps=1, iterations=1, bare=3)
    found = prefix.run(tiny, tiny, given, settings, False, seeded())
    plain = tiny.text.tokenizer(given.rows[0].prompt).input_ids[1:-1]
    assert len(found.tokens[0]) == count + len(plain)
