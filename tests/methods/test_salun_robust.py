"""SalUn with adversarial embeddings: its loss by hand, its bank in checkpoints, what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import mse_loss

from erase.diffusion.adversarial import Bank
from erase.diffusion.conditioning import where
from erase.diffusion.model import Diffusion
from erase.methods import salun_robust
from erase.runs.make import make_run
from erase.runtime.errors import UserError
from tests.methods.data import copied, losses, make_data, make_fit, moved, weights


def erase(d: Diffusion, folder: Path, config: salun_robust.Config, **settings: Any) -> None:
    data = make_data(d, "forget", "retain")
    salun_robust.erase(d, data, config, make_fit(d, "full", folder, **settings))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("place", ["word", "before"])
def test_the_first_loss_by_hand(place: Any, tiny: Diffusion, tmp_path: Path) -> None:
    """Every second row asks by an embedding."""
    weigh = 0.5 if place == "before" else 0.0
    config = salun_robust.Config(
        alpha=2.0, bank=2, bank_place=place, bank_spread=0.2, prefix_retain=weigh
    )
    base, model = copied(tiny), copied(tiny)
    erase(model, tmp_path, config)
    data = make_data(base, "forget", "retain")
    bank, (b, r) = salun_robust._of(base, data, config), data.batch(0)
    first = torch.tensor([0, 0])
    with torch.no_grad():
        a = base.predict(b.x_t, b.t, data.anchor_c[b.prompt])
        plain = base.predict(b.x_t, b.t, b.c)
        attacked = base.predict(b.x_t, b.t, bank.embed(b.prompt, first))
        wanted = (mse_loss(plain[0], a[0]) + mse_loss(attacked[1], a[1])) / 2
        if weigh:
            c = bank.embed(r.prompt + 2, first)
            kept = base.predict(r.x_t, r.t, data.retain_c[r.prompt])
            wanted += weigh * mse_loss(base.predict(r.x_t, r.t, c), kept)
    # What is retained costs nothing before the first step.
    assert losses(tmp_path)[0] == pytest.approx(float(wanted), rel=1e-4)


def test_it_moves_the_denoiser_and_never_the_text_encoder(tiny: Diffusion, tmp_path: Path) -> None:
    model = copied(tiny)
    encoder = model.text.encoders[0][1]
    before, text = weights(model), {n: p.clone() for n, p in encoder.state_dict().items()}
    erase(model, tmp_path, salun_robust.Config(bank=2, relearn_lr=1e-3))
    assert moved(before, model)
    assert all(torch.equal(p, text[n]) for n, p in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters())


@pytest.mark.parametrize("more", [{}, {"relearn_lr": 1e-4, "relearn_restart": 2}])
def test_a_run_that_was_cut_off_ends_with_the_same_bits(
    more: Any, tiny: Diffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = salun_robust.Config(bank=2, bank_restart=2, **more)
    whole, cut, again = copied(tiny), copied(tiny), copied(tiny)
    given = {"steps": 5, "checkpoint_every": 2}
    erase(whole, tmp_path / "whole", config, **given)

    class Stop(Exception):
        pass

    update = Bank.update

    def stopping(self: Bank, index: int) -> None:
        update(self, index)
        if index == 2:
            raise Stop

    monkeypatch.setattr(Bank, "update", stopping)
    with pytest.raises(Stop):
        erase(cut, tmp_path / "cut", config, **given)
    monkeypatch.setattr(Bank, "update", update)
    erase(again, tmp_path / "cut", config, **given)
    assert not moved(weights(whole), again)
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")


@pytest.mark.parametrize("lr", [0.0, 1e-3])
def test_parts_of_a_batch_are_the_batch(lr: float, tiny: Diffusion, tmp_path: Path) -> None:
    config = salun_robust.Config(bank=2, relearn_lr=lr)
    whole, parts = copied(tiny), copied(tiny)
    erase(whole, tmp_path / "whole", config, optimizer="sgd", lr=1e-2)
    data = make_data(parts, "forget", "retain")
    fit = make_fit(parts, "full", tmp_path / "parts", optimizer="sgd", lr=1e-2)  # type: ignore[arg-type]
    fit = replace(fit, parts=(slice(0, None, 2), slice(1, None, 2)))
    salun_robust.erase(parts, data, config, fit)
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "parts"), rel=1e-4)
    for a, b in zip(whole.denoiser.parameters(), parts.denoiser.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_embeddings_hear_of_nothing_but_what_they_bring_back(
    tiny: Diffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they move by is ∇_v ‖ε_θ(x_t|c[v]) - ε_0(x_t|c)‖², without any of L's own gradient."""
    config, seen, update = salun_robust.Config(bank=2), [], Bank.update

    def looked_at(self: Bank, index: int) -> None:
        seen.append([row[0].grad for row in self.v])
        update(self, index)

    monkeypatch.setattr(Bank, "update", looked_at)
    erase(copied(tiny), tmp_path, config, steps=1)
    data = make_data(tiny, "forget", "retain")
    bank, (b, _) = salun_robust._of(tiny, data, config), data.batch(0)
    with torch.no_grad():
        aim = tiny.predict(b.x_t, b.t, b.c)
    e_v = tiny.predict(b.x_t, b.t, bank.embed(b.prompt, torch.tensor([0, 0])))[1]
    [wanted] = torch.autograd.grad((e_v - aim[1]).square().mean() / 2, bank.v[0])
    assert float(wanted.abs().max()) > 0
    torch.testing.assert_close(seen[0][0], wanted, rtol=1e-4, atol=1e-8)
    assert seen[0][1] is None  # no row asked by it


class Terms:
    """The loss's terms by hand: row 0 is asked plainly, row 1 by v_index, which has not moved."""

    def __init__(self, base: Diffusion, config: salun_robust.Config) -> None:
        self.base, self.config = base, config
        self.data = make_data(base, "forget", "retain")
        self.bank = salun_robust._of(base, self.data, config)

    def anchor(self, index: int) -> tuple[Any, torch.Tensor]:
        b = self.data.batch(index)[0]
        with torch.no_grad():
            return b, self.base.predict(b.x_t, b.t, self.data.anchor_c[b.prompt])

    def plain(self, model: Diffusion, index: int) -> torch.Tensor:
        b, a = self.anchor(index)
        return mse_loss(model.predict(b.x_t, b.t, b.c)[0], a[0]) / 2

    def attacked(self, model: Diffusion, index: int) -> torch.Tensor:
        b, a = self.anchor(index)
        c = self.bank.embed(b.prompt, torch.tensor([index, index]))
        return mse_loss(model.predict(b.x_t, b.t, c)[1], a[1]) / 2

    def retained(self, model: Diffusion, index: int) -> torch.Tensor:
        r = self.data.batch(index)[1]
        with torch.no_grad():
            kept = self.base.predict(r.x_t, r.t, r.c)
        return self.config.alpha * mse_loss(model.predict(r.x_t, r.t, r.c), kept)

    def relearned(self, model: Diffusion, lr: float) -> Diffusion:
        """The model after Adam's first step on ∇L_DM."""
        ahead, n = copied(model), self.data.draw("forget", 0, purpose="relearn")
        ahead.denoiser.requires_grad_(True)
        slopes = slopes_of(ahead, mse_loss(ahead.predict(n.x_t, n.t, n.c), n.target))
        with torch.no_grad():
            for p, slope in zip(ahead.denoiser.parameters(), slopes, strict=True):
                p.sub_(lr * slope / (slope.abs() + 1e-8))
        return ahead


def slopes_of(model: Diffusion, value: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(value, list(model.denoiser.parameters()))


def test_relearning_by_hand(tiny: Diffusion, tmp_path: Path) -> None:
    """Every second row that asks for c asks at θ + δ, and δ is Adam's first step on ∇L_DM at θ,
    which no mask holds back. The gradient there counts as that at θ."""
    config = salun_robust.Config(alpha=3.0, bank=3, bank_spread=0.2, relearn_lr=1e-3)
    terms, lr = Terms(tiny, config), 1e-2
    mask = make_fit(tiny, "full", tmp_path).mask.random(0.5, 0)
    ends = {0: weights(tiny)}
    for steps in (1, 2, 3):
        model = copied(tiny)
        given = {"steps": steps, "lr": lr, "optimizer": "sgd"}
        fit = make_fit(model, "full", tmp_path / str(steps), **given)  # type: ignore[arg-type]
        salun_robust.erase(model, terms.data, config, replace(fit, mask=mask))
        ends[steps] = weights(model)

    model = copied(tiny)
    model.denoiser.requires_grad_(True)
    first = slopes_of(model, terms.plain(model, 0) + terms.attacked(model, 0))
    for (name, end), slope in zip(ends[1].items(), first, strict=True):
        wanted = ends[0][name] - lr * slope * mask.dense(name)
        torch.testing.assert_close(end, wanted, rtol=1e-4, atol=1e-7, msg=name)
    model.denoiser.load_state_dict(ends[1], strict=False)
    ahead = terms.relearned(model, 1e-3)
    there, asked = terms.plain(ahead, 1), terms.attacked(model, 1)
    told = float(rows(tmp_path / "2")[1]["forget"])
    assert told == pytest.approx(float((there + asked).detach()), rel=1e-3)
    here = terms.plain(model, 1)
    assert told != pytest.approx(float((here + asked).detach()), rel=1e-3)
    near = slopes_of(model, asked + terms.retained(model, 1))
    for name, at, far, before in zip(ends[2], near, slopes_of(ahead, there), first, strict=True):
        # SGD's momentum is 0.9.
        wanted = ends[1][name] - lr * (at + far + 0.9 * before) * mask.dense(name)
        torch.testing.assert_close(ends[2][name], wanted, rtol=1e-4, atol=1e-7, msg=name)
    model.denoiser.load_state_dict(ends[2], strict=False)
    here = terms.plain(model, 2) + terms.attacked(model, 2)
    assert float(rows(tmp_path / "3")[2]["forget"]) == pytest.approx(float(here.detach()), rel=1e-4)


def test_a_search_before_the_training_by_hand(tiny: Diffusion, tmp_path: Path) -> None:
    """v_1 is Adam's first step on what SGD's first step from the base has left; the next remapping
    begins at the base again, on v_1 and c in turn."""
    config = salun_robust.Config(
        bank=2, bank_lr=0.1, bank_spread=0.2, search_steps=1, search_erase=1
    )
    data, before, lr = make_data(tiny, "forget", "retain"), weights(tiny), 1e-2
    bank, start = (salun_robust._of(tiny, data, config) for _ in range(2))
    fit = make_fit(tiny, "full", tmp_path, lr=lr, optimizer="sgd")  # type: ignore[arg-type]
    salun_robust._search(tiny, data, config, fit, bank)
    assert not moved(before, tiny) and not any(row[0].requires_grad for row in bank.v)
    model, (b, _) = copied(tiny), data.batch(0)
    own = list(model.denoiser.requires_grad_(True).parameters())
    with torch.no_grad():
        a = tiny.predict(b.x_t, b.t, data.anchor_c[b.prompt])
    # What is retained pulls nowhere before the first step.
    slopes = torch.autograd.grad(mse_loss(model.predict(b.x_t, b.t, b.c), a), own)
    with torch.no_grad():
        for p, slope in zip(own, slopes, strict=True):
            p.sub_(lr * slope)
    n = data.draw("forget", 0, purpose="search-0")
    e = model.predict(n.x_t, n.t, start.embed(n.prompt, torch.tensor([0, 0])))
    [slope] = torch.autograd.grad(mse_loss(e, n.target), start.v[0])
    wanted = start.v[0][0].detach() - 0.1 * slope / (slope.abs() + 1e-8)
    torch.testing.assert_close(bank.v[0][0], wanted, rtol=1e-3, atol=1e-3)
    turn = torch.tensor([0, 1])
    c = where(turn == 1, b.c, bank.embed(b.prompt, turn))
    with torch.no_grad():
        first = float(mse_loss(tiny.predict(b.x_t, b.t, c), a))
    assert losses(tmp_path / "checkpoints" / "search-1")[0] == pytest.approx(first, rel=1e-4)


def test_every_remapping_asks_for_c_too(
    tiny: Diffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with more embeddings than rows: all of them take turns from step to step."""
    config = salun_robust.Config(bank=4, search_steps=1, search_erase=4)
    asked: list[list[int]] = []
    embed = Bank.embed

    def seen(self: Bank, rows: torch.Tensor, which: torch.Tensor) -> Any:
        asked.append(which.tolist())
        return embed(self, rows, which)

    monkeypatch.setattr(Bank, "learn", lambda *_: None)
    monkeypatch.setattr(Bank, "embed", seen)
    data = make_data(tiny, "forget", "retain")
    bank = salun_robust._of(tiny, data, config)
    salun_robust._search(tiny, data, config, make_fit(tiny, "full", tmp_path), bank)
    # Row by row, two a step; what says ``known`` is c.
    rounds = [asked[4 * k : 4 * k + 4] for k in range(4)]
    assert [[one for turn in each for one in turn] for each in rounds] == [
        [0] * 8,
        [0, 1] * 4,
        [0, 1, 2, 0, 1, 2, 0, 1],
        [0, 1, 2, 3] * 2,
    ]


def test_a_search_that_was_cut_off_goes_on(
    tiny: Diffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found is not looked for again, nor is a remapping's checkpoint made twice."""
    config = salun_robust.Config(bank=3, search_steps=1, search_erase=2)
    whole, cut, again = copied(tiny), copied(tiny), copied(tiny)
    erase(whole, tmp_path / "whole", config, steps=2)
    learn, looked = Bank.learn, []

    class Stop(Exception):
        pass

    def stopping(self: Bank, j: int, *given: Any) -> None:
        if j == 1:
            raise Stop
        learn(self, j, *given)

    def counting(self: Bank, j: int, *given: Any) -> None:
        looked.append(j)
        learn(self, j, *given)

    monkeypatch.setattr(Bank, "learn", stopping)
    with pytest.raises(Stop):
        erase(cut, tmp_path / "cut", config, steps=2)
    monkeypatch.setattr(Bank, "learn", counting)
    log = tmp_path / "cut" / "checkpoints" / "search-1" / "train.jsonl"
    seconds = [row["seconds"] for row in rows(log.parent)]
    erase(again, tmp_path / "cut", config, steps=2)
    assert looked == [1, 2] and not moved(weights(whole), again)
    assert [row["seconds"] for row in rows(log.parent)] == seconds
    assert not list(tmp_path.glob("cut/checkpoints/search-*/checkpoints"))


def test_what_it_can_not_do_is_one_sentence(tiny: Diffusion, tmp_path: Path) -> None:
    low = copied(tiny)
    low.denoiser.to(torch.bfloat16)
    with pytest.raises(UserError, match="leave out --low-memory"):
        erase(low, tmp_path, salun_robust.Config(relearn_lr=1e-4))
    given = {"low_memory": True}
    with pytest.raises(UserError, match="give --relearn-lr 0"):
        make_run("mini", "church", recipe="salun-robust", overrides=given)
    texts = {"concept": ["a photo of a church"], "retained": ["a photo of a dog"]}
    with pytest.raises(UserError, match="fewer --bank-tokens"):
        salun_robust.check_texts(salun_robust.Config(bank_tokens=80), tiny, texts, ["church"])
    before = salun_robust.Config(bank_tokens=74, bank_place="before")
    with pytest.raises(UserError, match="with the embeddings before it"):
        salun_robust.check_texts(before, tiny, texts, ["church"])
    with pytest.raises(UserError, match="give one --concept"):
        salun_robust.check(salun_robust.Config(), 2)
    with pytest.raises(UserError, match="--bank-place before"):
        salun_robust.check(salun_robust.Config(prefix_retain=0.5), 1)
    both = salun_robust.Config(prefix_retain=0.5, bank_place="before", search_steps=10)
    with pytest.raises(UserError, match="leave out --prefix-retain or --search-steps"):
        salun_robust.check(both, 1)
