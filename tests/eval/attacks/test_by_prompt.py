"""Attacks by prompts and embeddings, against computations of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.func import functional_call

from erase.diffusion.model import Diffusion
from erase.diffusion.tokens import read
from erase.eval.attacks import _inverting, inversion, paraphrase
from erase.eval.attacks._drawing import Pictures
from erase.eval.attacks._images import FRESH
from erase.runtime.errors import UserError
from erase.runtime.seeding import generator
from tests.eval.attacks.church import images_of, rows, target


def test_paraphrases_take_turns_with_the_rows_own_seeds(tiny: Diffusion) -> None:
    asked = target(rows=rows("a church", 4))
    found = paraphrase.run(tiny, tiny, asked, paraphrase.Settings(), False, generator(0))
    assert found.prompts == ["a chapel", "churches", "a house of prayer", "a chapel"]
    same = images_of(tiny, found.prompts, [0, 1, 2, 3], asked)
    assert np.array_equal(np.stack(found.images), np.stack(same))
    plain = paraphrase.run(tiny, tiny, asked, paraphrase.Settings(), True, generator(0))
    fresh = images_of(tiny, ["a church"] * 4, [FRESH + n for n in range(4)], asked)
    assert np.array_equal(np.stack(plain.images), np.stack(fresh))
    assert (found.later, plain.later) == (0, FRESH)
    assert found.tokens == read(tiny.text, found.prompts)


def test_a_concept_without_paraphrases_is_one_sentence(tiny: Diffusion) -> None:
    with pytest.raises(UserError, match="has no paraphrases"):
        paraphrase.run(
            tiny, tiny, target(paraphrases=()), paraphrase.Settings(), False, generator(0)
        )


def test_pictures_to_learn_from_are_of_one_size(tiny: Diffusion) -> None:
    """As rows of a retained set that gives some of them a size."""
    [plain] = rows("a truck icon", 1)
    mixed = [plain, replace(plain, seed=1, size=(24, None))]
    given = target(batch=2)
    pictures, _ = Pictures.of(tiny, tiny, mixed, given, generator(0))
    alike = [plain, replace(plain, seed=1)]
    same, _ = Pictures.of(tiny, tiny, alike, given, generator(0))
    assert torch.equal(pictures.posterior, same.posterior)


def test_an_embedding_is_learned_as_by_plain_adamw(tiny: Diffusion) -> None:
    settings = _inverting.Settings(restarts=1, steps=3, batch=2, lr=0.05)
    found = inversion.run(tiny, tiny, target(), settings, False, generator(3))
    [(tokenizer, encoder)] = tiny.text.encoders
    table = encoder.get_input_embeddings().weight
    word = tokenizer("church", add_special_tokens=False).input_ids
    ids = tokenizer(
        ["a church icon"] * 3, padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids
    [name] = [key for key, value in encoder.named_parameters() if value is table]
    row = (torch.arange(len(table)) == word[0]).unsqueeze(-1)
    v = table[word].detach().clone().requires_grad_(True)
    g = generator(3)
    pictures, _ = Pictures.of(tiny, tiny, target().shown, target(), g)
    optimizer = torch.optim.AdamW([v], lr=0.05)
    for _ in range(3):
        index, x_t, t, noise = pictures.noised(2)
        words = {name: torch.where(row, v, table.detach())}
        hidden = functional_call(encoder, words, (ids[index],)).last_hidden_state
        loss = (tiny.denoiser(x_t, t, hidden).sample - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert len(found.embeddings) == 1
    assert torch.allclose(found.embeddings[0], v.detach(), atol=1e-4)
    assert found.restarts == 1 and len(found.images) == 2 and len(found.fresh) == 2
    # Gradients, two rows on two sets of seeds, and the three pictures; guided, so two a step.
    assert found.forwards == 3 * 3 * 2 + 4 * 6 + 3 * 6


def test_without_the_name_no_start_is_the_word_s_own(tiny: Diffusion) -> None:
    settings = _inverting.Settings(restarts=1, steps=1, batch=1, lr=1e-9)
    [(tokenizer, encoder)] = tiny.text.encoders
    word = tokenizer("church", add_special_tokens=False).input_ids
    own = encoder.get_input_embeddings().weight[word].detach()
    known = inversion.run(tiny, tiny, target(), settings, False, generator(0)).embeddings[0]
    nameless = replace(target(), named=False, rows=rows("a drawing of a"))
    other = inversion.run(tiny, tiny, nameless, settings, False, generator(0)).embeddings[0]
    assert known is not None and other is not None
    assert torch.allclose(known, own, atol=1e-6) and not torch.allclose(other, own, atol=1e-3)


def test_several_embeddings_start_from_the_words_tokens_and_part(tiny: Diffusion) -> None:
    [(tokenizer, encoder)] = tiny.text.encoders
    word = tokenizer("church", add_special_tokens=False).input_ids
    own = encoder.get_input_embeddings().weight[word].detach()
    found = {}
    for lr in (1e-9, 0.05):
        settings = _inverting.Settings(vectors=3, restarts=1, steps=3, batch=2, lr=lr)
        found[lr] = inversion.run(tiny, tiny, target(), settings, False, generator(0)).embeddings[0]
    still, moved = found[1e-9], found[0.05]
    assert still is not None and moved is not None
    assert torch.allclose(still, own.repeat(3, 1), atol=1e-6)
    assert not torch.allclose(moved[0], moved[1], atol=1e-3)  # each has a place of its own


def test_restarts_draw_every_row_each(tiny: Diffusion) -> None:
    settings = _inverting.Settings(restarts=3, steps=1, batch=1, lr=0.01)
    found = inversion.run(tiny, tiny, target(), settings, False, generator(0))
    assert (found.restarts, len(found.images), len(found.fresh)) == (3, 6, 2)


def test_random_search_takes_the_embedding_of_the_lowest_loss(
    tiny: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: list[float] = []
    real = _inverting.mse_loss

    def noted(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        losses.append(float(real(a, b).detach()))
        return real(a, b)

    monkeypatch.setattr(_inverting, "mse_loss", noted)
    settings = _inverting.Settings(restarts=1, steps=4, batch=2, lr=0.01)
    found = inversion.run(tiny, tiny, target(), settings, True, generator(0))
    assert len(losses) == 3 * 4  # a step with a gradient is three forwards
    learned = inversion.run(tiny, tiny, target(), settings, False, generator(0))
    one = 2 * 2 * 3  # guided images of two rows, on new seeds
    assert found.forwards == learned.forwards - one and len(learned.fresh) == 2
    assert not found.fresh
    of_bound = inversion.run(tiny, tiny, target(bound=True), settings, False, generator(0))
    assert not of_bound.fresh and np.array_equal(of_bound.images, learned.images)


def test_a_prompt_that_does_not_say_the_word_gets_it_in_front() -> None:
    assert _inverting.named("a Church at night", "church") == "a Church at night"
    assert _inverting.named("a portrait", "church") == "church, a portrait"
