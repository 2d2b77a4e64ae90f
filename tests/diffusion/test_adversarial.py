"""The bank of adversarial embeddings against plain computations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.func import functional_call

from erase.diffusion.adversarial import Bank, Search
from erase.diffusion.model import Diffusion
from erase.runtime.errors import UserError
from tests.methods.data import make_data
from tests.tiny import tiny_sdxl

PROMPTS = ["a red church", "church at night"]


def own(tiny: Diffusion, word: str = "church") -> list[int]:
    ids: list[int] = tiny.text.tokenizer(word, add_special_tokens=False).input_ids
    return ids


def bank_of(tiny: Diffusion, **given: object) -> Bank:
    count = len(own(tiny))
    search = Search(**{"count": 3, "tokens": count, "spread": 0.3, **given})  # type: ignore[arg-type]
    return Bank(tiny, PROMPTS, "church", search, seed=4)


def test_the_words_own_embedding_is_the_prompt_itself(tiny: Diffusion) -> None:
    bank = bank_of(tiny, spread=0.0)
    c = bank.embed(torch.tensor([1, 0, 1]), torch.tensor([0, 1, 2]))
    wanted = tiny.embed([PROMPTS[1], PROMPTS[0], PROMPTS[1]])
    torch.testing.assert_close(c.hidden, wanted.hidden.float(), rtol=1e-5, atol=1e-6)


def test_two_text_encoders_each_have_their_own(tmp_path: Path) -> None:
    xl = Diffusion.load(str(tiny_sdxl(tmp_path / "xl")))
    bank = bank_of(xl, spread=0.0)
    c = bank.embed(torch.tensor([1, 0]), torch.tensor([0, 1]))
    wanted = xl.embed([PROMPTS[1], PROMPTS[0]]).float()
    torch.testing.assert_close(c.hidden, wanted.hidden, rtol=1e-5, atol=1e-6)
    assert c.added.keys() == wanted.added.keys() and len(c.added) > 0
    for name, value in wanted.added.items():
        torch.testing.assert_close(c.added[name], value, rtol=1e-5, atol=1e-6)
    x_t = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    bank.push(xl.predict(x_t, torch.tensor([500, 20]), c).square().mean())
    slopes = [x.grad for row in bank.v[:2] for x in row]
    assert len(slopes) == 4
    assert all(slope is not None and float(slope.abs().max()) > 0 for slope in slopes)


def test_embeddings_before_the_prompt_leave_its_words(tiny: Diffusion) -> None:
    bank = bank_of(tiny, place="before", tokens=1, spread=0.0)
    drawn = bank.v[1][0].detach()
    table = tiny.text.encoders[0][1].get_input_embeddings().weight
    [token] = (table == drawn).all(1).nonzero().flatten().tolist()
    spelled = tiny.text.tokenizer.convert_ids_to_tokens(token)
    ids = tiny.text.tokenizer(PROMPTS[0]).input_ids
    bos, *rest = ids
    whole = torch.tensor([[bos, token, *rest]])
    padded = torch.nn.functional.pad(
        whole, (0, 77 - whole.shape[1]), value=tiny.text.tokenizer.pad_token_id
    )
    with torch.no_grad():
        wanted = tiny.text.encode([padded]).float().hidden
        found = bank.embed(torch.tensor([0]), torch.tensor([1])).hidden
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6, msg=spelled)


def test_the_gradient_is_that_of_plain_tensors(tiny: Diffusion) -> None:
    """One row of the embedding table stands for v, for a text encoder called as a function."""
    bank = bank_of(tiny)
    encoder = tiny.text.encoders[0][1]
    [name] = [
        n for n, p in encoder.named_parameters() if p is encoder.get_input_embeddings().weight
    ]
    x_t, wanted = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([500])

    def loss(c: object) -> torch.Tensor:
        return (tiny.predict(x_t, t, c) - wanted).square().mean()  # type: ignore[arg-type]

    bank.push(loss(bank.embed(torch.tensor([0]), torch.tensor([2]))))
    v = bank.v[2][0].detach().clone().requires_grad_(True)
    table = encoder.get_input_embeddings().weight.detach().clone()
    for place, token in enumerate(own(tiny)):
        table[token] = v[place]
    ids = tiny.text.tokenizer(
        [PROMPTS[0]], padding="max_length", max_length=77, return_tensors="pt"
    ).input_ids
    hidden = functional_call(encoder, {name: table}, (ids,)).last_hidden_state
    from erase.diffusion.conditioning import Conditioning

    [wanted_slope] = torch.autograd.grad(loss(Conditioning(hidden.float())), [v])
    assert float(wanted_slope.abs().max()) > 0
    slope = bank.v[2][0].grad
    assert slope is not None and bank.v[0][0].grad is None
    torch.testing.assert_close(slope, wanted_slope, rtol=1e-4, atol=1e-7)


def test_embeddings_start_again_in_turn_and_no_other_moves(tiny: Diffusion) -> None:
    bank = bank_of(tiny, restart=2, lr=0.1)

    def taught(index: int) -> None:
        bank.push(sum(row[0].square().sum() for row in bank.v))  # type: ignore[arg-type]
        bank.update(index)

    start = [row[0].detach().clone() for row in bank.v]
    taught(0)
    stepped = [row[0].detach().clone() for row in bank.v]
    # Adam's first step is the learning rate, whatever the gradient.
    for a, b in zip(start, stepped, strict=True):
        torch.testing.assert_close((a - b).abs(), torch.full_like(a, 0.1), rtol=1e-3, atol=1e-3)
    taught(1)
    assert bank.v[0][0] not in bank.adam.state and bank.v[1][0] in bank.adam.state
    again = bank_of(tiny, restart=2, lr=0.1)._start(0, 1)[0]
    assert torch.equal(bank.v[0][0], again)


def test_what_was_kept_goes_on_as_if_nothing_had_happened(tiny: Diffusion) -> None:
    def taught(bank: Bank, index: int) -> None:
        bank.push(sum((row[0] - 1).square().sum() for row in bank.v))  # type: ignore[arg-type]
        bank.update(index)

    whole, cut = bank_of(tiny, restart=3), bank_of(tiny, restart=3)
    for index in range(7):
        taught(whole, index)
    for index in range(4):
        taught(cut, index)
    taken = bank_of(tiny, restart=3)
    taken.load_state_dict(cut.state_dict())
    for index in range(4, 7):
        taught(taken, index)
    for a, b in zip(whole.v, taken.v, strict=True):
        assert torch.equal(a[0], b[0])


def test_a_prompt_that_would_be_cut_off_is_refused(tiny: Diffusion) -> None:
    long = " ".join(["church"] * 80)
    with pytest.raises(UserError, match="77: shorten it, or give --bank-place word"):
        Bank(tiny, [long], "church", Search(place="before"), 0)


def test_a_prompt_without_the_word_is_refused(tiny: Diffusion) -> None:
    with pytest.raises(UserError, match="is not in the prompt"):
        Bank(tiny, ["a dog"], "church", Search(), 0)


def test_a_search_in_parts_finds_what_it_finds_whole(tiny: Diffusion) -> None:
    data, found = make_data(tiny, "forget", pairs=tuple((p, "a truck") for p in PROMPTS)), []
    for width in (data.batch_size, 1):
        bank = bank_of(tiny)
        bank.learn(1, tiny, data, 3, width)
        found.append(bank.v[1][0].detach())
    assert not torch.equal(found[0], bank_of(tiny).v[1][0])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)
