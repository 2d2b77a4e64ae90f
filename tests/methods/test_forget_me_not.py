"""Forget-Me-Not: the attention it reads, the tokens it looks at, the loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from erase.cli.main import main
from erase.diffusion.conditioning import Conditioning
from erase.diffusion.data import embed_all
from erase.diffusion.inversion import Search, invert
from erase.diffusion.model import Diffusion
from erase.methods import forget_me_not
from erase.methods.forget_me_not import Config, erase, loss
from erase.recipes.recipe import load_recipe
from erase.runs.checks import check
from erase.runs.make import make_run
from erase.runtime.errors import UserError
from tests.methods.data import PAIRS, make_data, make_fit, moved, weights
from tests.tiny import tiny_sd2


def test_attention_is_the_softmax_of_query_times_key(tiny: Diffusion) -> None:
    x_t, t = torch.randn(2, 4, 8, 8), torch.tensor([500, 20])
    c = tiny.embed(["a church", "one church"])
    layers = {n: m for n, m in tiny.denoiser.named_modules() if n.endswith("attn2")}
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> None:
            seen[name] = args[0].detach()

        return hook

    handles = [m.register_forward_pre_hook(keep(n), with_kwargs=True) for n, m in layers.items()]
    plain = tiny.predict(x_t, t, c).detach()
    for handle in handles:
        handle.remove()
    found = tiny.attention_probs(x_t, t, c)
    assert set(found) == set(layers) and len(found) >= 2
    for name, layer in layers.items():
        q, k = seen[name] @ layer.to_q.weight.T, c.hidden @ layer.to_k.weight.T
        width = q.shape[-1] // layer.heads
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            expected = (q[..., part] @ k[..., part].transpose(1, 2) / width**0.5).softmax(-1)
            torch.testing.assert_close(found[name][:, head], expected, rtol=1e-4, atol=1e-6)
    # Reading changes neither the prediction nor the model.
    from erase.diffusion.attention import recording

    with recording(tiny.denoiser):
        torch.testing.assert_close(tiny.predict(x_t, t, c), plain, rtol=1e-4, atol=1e-5)
    assert torch.equal(tiny.predict(x_t, t, c), plain)


def test_loss_is_the_norm_over_all_layers_at_the_words_tokens() -> None:
    probs = {"a": torch.full((1, 2, 3, 5), 0.1), "b": torch.full((1, 1, 2, 5), 0.2)}
    tokens = torch.tensor([[False, True, True, False, False]])
    # 2·3·2 entries of 0.1² and 1·2·2 of 0.2²
    assert loss(probs, tokens, True).item() == pytest.approx(12 * 0.01 + 4 * 0.04)
    assert loss(probs, tokens, False).item() == pytest.approx((12 * 0.01 + 4 * 0.04) ** 0.5)


def test_tokens_of_a_word_are_found(tiny: Diffusion) -> None:
    prompts = ["a church", "golf flag by a church, church"]
    found = tiny.text.positions(prompts, "church")
    # 0 is start-of-text; the comma is a token of its own.
    assert [r.nonzero().flatten().tolist() for r in found] == [[2], [5, 7]]
    with_end = tiny.text.positions(prompts, "Church", end=True)
    assert [r.nonzero().flatten().tolist() for r in with_end] == [[2, 3], [5, 7, 8]]
    two = tiny.text.positions(prompts[1:], "golf flag")
    assert two[0].nonzero().flatten().tolist() == [1, 2]


def test_every_end_is_marked_where_the_prompt_is_filled_up_with_it(
    tiny: Diffusion, tmp_path: Path
) -> None:
    """As the published code marks: all that equal the end, 72 + 5 of 77 for this prompt."""
    prompt = "a photo of a church"
    assert int(tiny.text.positions([prompt], "church", True).sum()) == 1 + 1
    found = tiny.text.positions([prompt], "church", True, True)[0]
    assert found.nonzero().flatten().tolist() == [5, *range(6, 77)]  # 72 positions
    second = Diffusion.load(str(tiny_sd2(tmp_path / "sd2")))  # fills up with "!"
    found = second.text.positions([prompt], "church", True, True)[0]
    assert found.nonzero().flatten().tolist() == [5, 6]
    data = make_data(tiny, "forget")
    learnt = invert(tiny, data, Search(steps=1, tokens=3, lr=1e-3, end=True, every_end=True))
    assert learnt.tokens[0].nonzero().flatten().tolist() == [2, 3, 4, *range(5, 77)]


def test_the_method_marks_what_it_is_told_to(
    tiny: Diffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marked: list[int] = []
    inner = forget_me_not.loss

    def seen(probs: Any, tokens: torch.Tensor, squared: bool) -> torch.Tensor:
        marked.append(int(tokens[0].sum()))
        return inner(probs, tokens, squared)

    monkeypatch.setattr(forget_me_not, "loss", seen)
    for i, config in enumerate((Config(end_token=False), Config(), Config(every_end_token=True))):
        fit = make_fit(tiny, "xattn", tmp_path / str(i), steps=1)
        erase(tiny, make_data(tiny, "forget", batch_size=1), config, fit)
    assert marked == [1, 2, 75]  # "a church": its word, the end, and 73 that fill it up


def test_the_inversion_of_the_published_code(tiny: Diffusion, monkeypatch: Any) -> None:
    """Each step: AdamW with its decay, then |v| + 0.1·(0.4 - |v|) at a rate of 1e-3."""
    seen: list[list[torch.Tensor]] = []
    inner = torch.optim.AdamW.step

    def step(self: Any, *args: Any) -> Any:
        [group] = self.param_groups
        before = [p.detach().clone() for p in group["params"]]
        assert group["weight_decay"] == 0.1
        found = inner(self, *args)
        seen.append([*before, *(p.detach().clone() for p in group["params"])])
        return found

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    how: dict[str, float] = {"random_start": 1.0, "weight_decay": 0.1, "norm": 0.4}
    data = make_data(tiny, "forget")
    invert(tiny, data, Search(steps=2, tokens=3, lr=1e-3, end=True, **how))
    (start, stepped), (pulled, _) = seen
    church = tiny.pipeline.tokenizer("church", add_special_tokens=False).input_ids
    table = tiny.pipeline.text_encoder.get_input_embeddings().weight
    assert torch.equal(start[0], table[church[0]])
    assert 0.7 < start[1:].std() < 1.3 and not torch.equal(start[1], start[2])
    norms = stepped.norm(dim=-1)
    torch.testing.assert_close(pulled.norm(dim=-1), norms + 0.1 * (0.4 - norms))
    torch.testing.assert_close(pulled / pulled.norm(dim=-1, keepdim=True), stepped / norms[:, None])


def test_the_published_settings_are_fmns_and_not_minis() -> None:
    published = load_recipe("fmn").config
    assert published.every_end_token and published.inversion_norm == 0.4
    assert (published.inversion_random_start, published.inversion_weight_decay) == (1.0, 0.1)
    mini = load_recipe("fmn-mini").config
    new = (mini.every_end_token, mini.inversion_random_start, mini.inversion_weight_decay)
    assert new == (False, None, None) and mini.inversion_norm is None
    with pytest.raises(UserError, match="--every-end-token has no effect on fmn"):
        load_recipe("fmn", {"end_token": False, "every_end_token": True})
    assert not load_recipe("fmn", {"end_token": False}).config.end_token


def test_a_prompt_without_the_word_is_named(tiny: Diffusion) -> None:
    with pytest.raises(UserError, match="'radio' is not in the prompt 'a church'"):
        tiny.text.positions(["a church"], "radio")


@pytest.mark.parametrize("norm", ["plain", "squared"])
@pytest.mark.parametrize("model", ["tiny", "tiny_v"])
def test_attention_on_the_word_falls(
    norm: str, model: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    d: Diffusion = request.getfixturevalue(model)
    x_t, t = torch.randn(2, 4, 8, 8), torch.tensor([500, 20])
    c, tokens = d.embed([c for c, _ in PAIRS]), d.text.positions([c for c, _ in PAIRS], "church")
    before = loss(d.attention_probs(x_t, t, c), tokens, True).item()
    config = Config(norm=norm, end_token=False)  # type: ignore[arg-type]
    erase(d, make_data(d, "forget"), config, make_fit(d, "full", tmp_path, steps=15, lr=5e-3))
    assert loss(d.attention_probs(x_t, t, c), tokens, True).item() < 0.8 * before


def test_inversion_lowers_the_loss_and_moves_no_network(tiny: Diffusion) -> None:
    before, data = weights(tiny), make_data(tiny, "forget")
    encoder = {k: v.clone() for k, v in tiny.pipeline.text_encoder.state_dict().items()}
    found = invert(tiny, data, Search(steps=40, tokens=3, lr=0.05, end=True))

    def total(c: Conditioning) -> float:
        """The loss over the very draws that the inversion saw."""
        draws = [data.draw("forget", i, purpose="inversion") for i in range(40)]
        return sum(
            (tiny.predict(b.x_t, b.t, c[b.prompt]) - b.target).square().mean().item() for b in draws
        )

    assert total(found.c) < total(data.c)
    assert not moved(before, tiny)
    after = tiny.pipeline.text_encoder.state_dict()
    assert all(torch.equal(after[k], v) for k, v in encoder.items())
    # "a church": three learnt tokens in the place of one, then the end.
    assert found.tokens[0].nonzero().flatten().tolist() == [2, 3, 4, 5]


def test_an_inversion_that_learns_nothing_is_the_prompt(tiny: Diffusion) -> None:
    data = make_data(tiny, "forget")
    found = invert(tiny, data, Search(steps=1, tokens=1, lr=1e-12, end=False))
    torch.testing.assert_close(found.c.hidden, data.c.hidden, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.tokens, tiny.text.positions([c for c, _ in PAIRS], "church"))


def test_a_word_that_is_said_twice_is_learnt_twice(tiny: Diffusion) -> None:
    prompts = ("golf flag by a church, church", "a church")
    own = make_data(tiny, "forget")
    pairs = tuple((prompt, "a truck") for prompt in prompts)
    data = replace(own, pairs=pairs, c=embed_all(tiny, prompts))
    same = invert(tiny, data, Search(steps=1, tokens=1, lr=1e-12, end=False))
    torch.testing.assert_close(same.c.hidden, data.c.hidden, rtol=1e-4, atol=1e-5)
    assert torch.equal(same.tokens, tiny.text.positions(prompts, "church"))
    found = invert(tiny, data, Search(steps=3, tokens=2, lr=0.5, end=True))
    assert [r.nonzero().flatten().tolist() for r in found.tokens] == [[5, 6, 8, 9, 10], [2, 3, 4]]
    assert not torch.allclose(found.c.hidden[0, 8], same.c.hidden[0, 7])


def test_learnt_tokens_that_do_not_fit_are_refused(tiny: Diffusion) -> None:
    data = replace(make_data(tiny, "forget"), pairs=((f"a church{' a' * 72}", "a truck"),) * 2)
    invert(tiny, data, Search(steps=1, tokens=2, lr=1e-3, end=True))  # 77 tokens with start and end
    with pytest.raises(UserError, match="has 78 tokens .* takes 77.*--inversion-tokens"):
        invert(tiny, data, Search(steps=1, tokens=3, lr=1e-3, end=True))


def test_forget_me_not_after_an_inversion(tiny: Diffusion, tmp_path: Path) -> None:
    before = weights(tiny)
    config = Config(inversion_steps=2)
    erase(tiny, make_data(tiny, "forget"), config, make_fit(tiny, "xattn", tmp_path))
    assert {".attn2." in n for n in moved(before, tiny)} == {True}


def test_the_words_are_looked_for_before_anything_is_made(
    tiny_folder: Path, tiny: Diffusion, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The word of this prompt lies behind the 77 tokens that the model reads."""
    argv = ["run", "--model", str(tiny_folder), "--concept", f"{'so ' * 80}old a [church]"]
    argv += ["--recipe", "fmn", "--out", str(tmp_path / "r")]
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert "The word 'church' is not within the 77" in capsys.readouterr().err
    assert not (tmp_path / "r" / "images").exists()
    run = make_run(str(tiny_folder), "a photo of a church", recipe="fmn")
    check(run, tiny)
    assert "every word of 'a photo of a church'" in capsys.readouterr().err
    run = make_run(str(tiny_folder), "a photo of a [church]", recipe="fmn")
    check(run, tiny)
    assert run.words() == ("church",) and not capsys.readouterr().err
