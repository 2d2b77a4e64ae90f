"""SalUn with adversarial embeddings: its loss by hand, its bank in checkpoints, what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import mse_loss

from erase.diffusion.model import Diffusion
from erase.methods import salun_robust
from erase.runtime.errors import UserError
from tests.methods.data import copied, losses, make_data, make_fit, moved, weights


def erase(d: Diffusion, folder: Path, config: salun_robust.Config, **settings: Any) -> None:
    data = make_data(d, "forget", "retain")
    salun_robust.erase(d, data, config, make_fit(d, "full", folder, **settings))


@pytest.mark.parametrize("place", ["word", "before"])
def test_the_first_loss_by_hand(place: Any, tiny: Diffusion, tmp_path: Path) -> None:
    weigh = 0.5 if place == "before" else 0.0
    config = salun_robust.Config(
        alpha=2.0, beta=0.7, bank=2, bank_place=place, bank_spread=0.2, prefix_retain=weigh
    )
    base, model = copied(tiny), copied(tiny)
    erase(model, tmp_path, config)
    data = make_data(base, "forget", "retain")
    bank, (b, r) = salun_robust._bank(base, data, config), data.batch(0)
    which = torch.tensor([0, 1])
    with torch.no_grad():
        a = base.predict(b.x_t, b.t, data.anchor_c[b.prompt])
        wanted = mse_loss(base.predict(b.x_t, b.t, b.c), a)
        wanted += 0.7 * mse_loss(base.predict(b.x_t, b.t, bank.embed(b.prompt, which)), a)
        if weigh:
            c = bank.embed(r.prompt + 2, which)
            kept = base.predict(r.x_t, r.t, data.retain_c[r.prompt])
            wanted += weigh * mse_loss(base.predict(r.x_t, r.t, c), kept)
    # What is retained costs nothing before the first step.
    assert losses(tmp_path)[0] == pytest.approx(float(wanted), rel=1e-4)


def test_it_moves_the_denoiser_and_never_the_text_encoder(tiny: Diffusion, tmp_path: Path) -> None:
    model = copied(tiny)
    encoder = model.text.encoders[0][1]
    before, text = weights(model), {n: p.clone() for n, p in encoder.state_dict().items()}
    erase(model, tmp_path, salun_robust.Config(bank=2))
    assert moved(before, model)
    assert all(torch.equal(p, text[n]) for n, p in encoder.state_dict().items())
    assert all(p.grad is None for p in encoder.parameters())


def test_a_run_that_was_cut_off_ends_with_the_same_bits(
    tiny: Diffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = salun_robust.Config(bank=2, bank_restart=2)
    whole, cut, again = copied(tiny), copied(tiny), copied(tiny)
    given = {"steps": 5, "checkpoint_every": 2}
    erase(whole, tmp_path / "whole", config, **given)

    class Stop(Exception):
        pass

    from erase.diffusion.adversarial import Bank

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


def test_parts_of_a_batch_are_the_batch(tiny: Diffusion, tmp_path: Path) -> None:
    config, whole, parts = salun_robust.Config(bank=2), copied(tiny), copied(tiny)
    erase(whole, tmp_path / "whole", config, optimizer="sgd", lr=1e-2)
    data = make_data(parts, "forget", "retain")
    fit = make_fit(parts, "full", tmp_path / "parts", optimizer="sgd", lr=1e-2)  # type: ignore[arg-type]
    fit = replace(fit, parts=(slice(0, None, 2), slice(1, None, 2)))
    salun_robust.erase(parts, data, config, fit)
    assert losses(tmp_path / "whole") == pytest.approx(losses(tmp_path / "parts"), rel=1e-4)
    for a, b in zip(whole.denoiser.parameters(), parts.denoiser.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_what_it_can_not_do_is_one_sentence() -> None:
    with pytest.raises(UserError, match="give one --concept"):
        salun_robust.check(salun_robust.Config(), 2)
    with pytest.raises(UserError, match="--bank-place before"):
        salun_robust.check(salun_robust.Config(prefix_retain=0.5), 1)
