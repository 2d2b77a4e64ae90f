"""The training loop: resume with the same bits, stop at NaN, survive a broken checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from erase.runtime.errors import UserError
from erase.runtime.seeding import generator
from erase.unlearn.fit import Fit, Settings
from erase.unlearn.mask import Mask


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def fit_of(
    model: nn.Module, folder: Path, optimizer: str, steps: int = 9, schedule: str = "cosine"
) -> Fit:
    saliency = {n: p.detach().abs() for n, p in model.named_parameters()}
    mask = Mask.top(saliency, 0.6, model, {"scope": "full"})
    settings = Settings(steps, 0.01, optimizer, 0.01, 2, schedule)  # type: ignore[arg-type]
    return Fit(settings, mask, folder, Accelerator(cpu=True))


class Stop(Exception):
    pass


def step_of(model: nn.Module, stop_at: int | None = None, nan_at: int | None = None):  # type: ignore[no-untyped-def]
    def step(index: int, part: slice) -> Mapping[str, Tensor]:
        if index == stop_at:
            raise Stop
        x = torch.randn(4, 5, generator=generator(0, index))
        value = (model(x) - x[:, :3]).square().mean()
        return {"loss": value * (float("nan") if index == nan_at else 1.0)}

    return step


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("stop_at", [1, 5, 8])
def test_a_cut_off_run_ends_with_the_same_bits(
    optimizer: str, stop_at: int, tmp_path: Path
) -> None:
    whole = net()
    fit_of(whole, tmp_path / "whole", optimizer)(whole, step_of(whole))
    cut = net()
    with pytest.raises(Stop):
        fit_of(cut, tmp_path / "cut", optimizer)(cut, step_of(cut, stop_at))
    again = net()
    fit_of(again, tmp_path / "cut", optimizer)(again, step_of(again))
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    logs = [(tmp_path / f / "train.jsonl").read_text().splitlines() for f in ("whole", "cut")]
    losses = [[(r["step"], r["loss"]) for r in map(json.loads, log)] for log in logs]
    assert losses[0] == losses[1]
    assert [s for s, _ in losses[0]] == list(range(1, 10))


def test_nan_stops_by_step_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    model = net()
    with pytest.raises(UserError, match=r"not finite at step 6: .*checkpoint of step 4 is kept"):
        fit_of(model, tmp_path, "adam")(model, step_of(model, nan_at=5))
    assert (tmp_path / "checkpoints" / "step-0000004.pt").exists()


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    model = net()

    def step(index: int, part: slice) -> Mapping[str, Tensor]:
        # A finite loss whose gradient is not: the derivative of the root at zero.
        return {"loss": (model[0].weight * 0).square().sum().sqrt()}

    fit = fit_of(model, tmp_path, "sgd")
    fit = replace(fit, settings=replace(fit.settings, checkpoint_every=1))
    with pytest.raises(UserError, match="Weights are not finite after step 1.*no checkpoint yet"):
        fit(model, step)
    assert not (tmp_path / "checkpoints").exists()


def test_checkpoints_of_other_settings_are_not_taken_up(tmp_path: Path) -> None:
    first, again, whole = net(), net(), net()
    with pytest.raises(Stop):
        fit_of(first, tmp_path / "a", "adam")(first, step_of(first, 5))
    other = replace(fit_of(again, tmp_path / "a", "adam"), key="other")
    other(again, step_of(again))
    fit_of(whole, tmp_path / "b", "adam")(whole, step_of(whole))
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_checkpoints_of_other_settings_do_not_outlive_later_ones(tmp_path: Path) -> None:
    old, cut = net(), net()
    fit_of(old, tmp_path, "adam")(old, step_of(old))
    new = replace(fit_of(cut, tmp_path, "adam"), key="other")
    with pytest.raises(Stop):
        new(cut, step_of(cut, 5))
    names = sorted(f.name for f in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-0000002.pt", "step-0000004.pt"]


def test_a_checkpoint_cut_short_falls_back_to_the_one_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, cut, again = net(), net(), net()
    fit_of(whole, tmp_path / "whole", "adam")(whole, step_of(whole))
    with pytest.raises(Stop):
        fit_of(cut, tmp_path / "cut", "adam")(cut, step_of(cut, 5))
    last = tmp_path / "cut/checkpoints/step-0000004.pt"
    last.write_bytes(last.read_bytes()[:100])
    fit_of(again, tmp_path / "cut", "adam")(again, step_of(again))
    assert "step-0000004.pt can't be read" in capsys.readouterr().out
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    model = net()
    fit_of(model, tmp_path, "adam")(model, step_of(model))
    names = sorted(f.name for f in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-0000008.pt", "step-0000009.pt"]


def test_the_learning_rate_follows_its_schedule(tmp_path: Path) -> None:
    assert [Settings(4, 0.5).rate(i) for i in range(4)] == [0.5] * 4
    falling = Settings(4, 0.5, schedule="cosine")
    # 0.25 (1 + cos(i π / 4))
    assert [falling.rate(i) for i in range(4)] == pytest.approx([0.5, 0.4267767, 0.25, 0.0732233])

    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    mask = Mask.full(dict(model.named_parameters()), model, {"scope": "full"})
    settings = Settings(4, 0.5, "adam", schedule="cosine")
    fit = Fit(settings, mask, tmp_path, Accelerator(cpu=True))
    fit(model, lambda index, part: {"loss": model.weight.sum()})
    # Adam's step is the rate itself where the gradient never changes.
    assert model.weight.item() == pytest.approx(1 - 1.25, abs=1e-6)
