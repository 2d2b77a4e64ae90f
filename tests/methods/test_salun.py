"""SalUn's loss against the equation computed by hand, and its effect on a tiny model."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from erase.diffusion.data import Batch, Encoded, TrainingData, embed_all
from erase.diffusion.model import Diffusion
from erase.diffusion.scopes import scoped
from erase.methods.salun import Config, erase, loss
from erase.unlearn.fit import Fit, Settings
from erase.unlearn.mask import Mask
from tests.methods.data import copied, losses, make_fit


@pytest.fixture
def data(tiny: Diffusion) -> TrainingData:
    g = torch.Generator().manual_seed(1)
    side = tiny.size // tiny.stride

    def encoded(prompts: int) -> Encoded:
        posterior = torch.randn(5, 2, 4, side, side, generator=g)
        posterior[:, 1] = 0.05
        return Encoded(posterior, torch.arange(5) % prompts)

    return TrainingData(
        images={"forget": encoded(2), "retain": encoded(2)},
        pairs=(("a church", "a truck"), ("one church", "one truck")),
        retain_prompts=("a radio", "a dog"),
        words=("church",) * 2,
        c=embed_all(tiny, ["a church", "one church"]),
        anchor_c=embed_all(tiny, ["a truck", "one truck"]),
        retain_c=embed_all(tiny, ["a radio", "a dog"]),
        timesteps=1000,
        batch_size=2,
        seed=0,
        empty_c=embed_all(tiny, [""]),
    )


def by_hand(unet: torch.nn.Module, d: Diffusion, b: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The equation, branch by branch: (forget, retain without α)."""
    abar = d.pipeline.scheduler.alphas_cumprod

    def noised(x0: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        a = abar[t].view(-1, 1, 1, 1)
        return a**0.5 * x0 + (1 - a) ** 0.5 * noise

    x_t = noised(b.x0, b.noise, b.t)
    forget = unet(x_t, b.t, b.c.hidden).sample - unet(x_t, b.t, b.anchor_c.hidden).sample.detach()
    xr_t = noised(b.retain_x0, b.retain_noise, b.retain_t)
    retain = unet(xr_t, b.retain_t, b.retain_c.hidden).sample - b.retain_noise
    return forget.pow(2).mean(), retain.pow(2).mean()


def gradients(d: Diffusion, value: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(value, list(d.denoiser.parameters())))


def test_loss_and_gradient_equal_the_equation(tiny: Diffusion, data: TrainingData) -> None:
    tiny.denoiser.requires_grad_(True)
    batch = data.batch(0)
    forget, retain = loss(tiny, batch, alpha=0.3, anchor_model=tiny.predict, retain_model=None)
    expected = by_hand(tiny.denoiser, tiny, batch)
    torch.testing.assert_close(forget, expected[0])
    torch.testing.assert_close(retain, 0.3 * expected[1])
    ours = gradients(tiny, forget + retain)
    theirs = gradients(tiny, expected[0] + 0.3 * expected[1])
    tiny.denoiser.requires_grad_(False)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_retain_can_match_the_frozen_model(tiny: Diffusion, data: TrainingData) -> None:
    _, retain = loss(
        tiny, data.batch(0), alpha=1.0, anchor_model=tiny.predict, retain_model=tiny.predict
    )
    assert float(retain) < 1e-10


def run(d: Diffusion, data: TrainingData, folder: Path, config: Config, mask: Mask) -> None:
    settings = Settings(steps=12, lr=2e-3, checkpoint_every=100)
    fit = Fit(settings, mask, folder, Accelerator(cpu=True))
    erase(d, data, config, fit)


@pytest.mark.parametrize("target", ["moving", "frozen"])
def test_the_concept_moves_to_the_anchor_and_other_weights_stay(
    tiny: Diffusion, data: TrainingData, target: str, tmp_path: Path
) -> None:
    model = replace(tiny, pipeline=copy.deepcopy(tiny.pipeline))
    before = copy.deepcopy(model.denoiser.state_dict())
    saliency = {n: torch.rand(p.shape) for n, p in scoped(model.denoiser, "full").items()}
    mask = Mask.top(saliency, 0.5, model.denoiser, {"scope": "full"})
    batch = data.batch(500)
    with torch.no_grad():
        first = float(by_hand(model.denoiser, model, batch)[0])
    config = Config(alpha=0.1, target=target)  # type: ignore[arg-type]
    run(model, data, tmp_path, config, mask)
    with torch.no_grad():
        last = float(by_hand(model.denoiser, model, batch)[0])
    assert last < first
    moved = 0
    for name, value in model.denoiser.state_dict().items():
        inside = mask.dense(name)
        assert torch.equal(value[~inside], before[name][~inside])
        moved += int((value[inside] != before[name][inside]).sum())
    assert moved > 0.9 * mask.count


@pytest.mark.parametrize("target", ["moving", "frozen"])
@pytest.mark.parametrize("retain_target", ["noise", "frozen"])
def test_who_answers_shows_in_the_second_step(
    tiny: Diffusion, data: TrainingData, target: str, retain_target: str, tmp_path: Path
) -> None:
    """Before the first step both models are the base."""
    config = Config(alpha=0.5, target=target, retain_target=retain_target)  # type: ignore[arg-type]
    stepped, trained = copied(tiny), copied(tiny)
    for model, steps in ((stepped, 1), (trained, 2)):
        fit = make_fit(model, "full", tmp_path / str(steps), steps=steps, lr=0.02)
        erase(model, data, config, fit)
    batch = data.batch(1)
    abar = tiny.pipeline.scheduler.alphas_cumprod
    a, ar = (abar[t].view(-1, 1, 1, 1) for t in (batch.t, batch.retain_t))
    x_t = a**0.5 * batch.x0 + (1 - a) ** 0.5 * batch.noise
    xr_t = ar**0.5 * batch.retain_x0 + (1 - ar) ** 0.5 * batch.retain_noise

    @torch.no_grad()
    def second(anchor_model: Diffusion, noise: bool) -> float:
        c, anchor_c = batch.c.hidden, batch.anchor_c.hidden
        wanted = anchor_model.denoiser(x_t, batch.t, anchor_c).sample
        forget = (stepped.denoiser(x_t, batch.t, c).sample - wanted).square().mean()
        kept = tiny.denoiser(xr_t, batch.retain_t, batch.retain_c.hidden).sample
        own = stepped.denoiser(xr_t, batch.retain_t, batch.retain_c.hidden).sample
        retain = (own - (batch.retain_noise if noise else kept)).square().mean()
        return float(forget + 0.5 * retain)

    logged = losses(tmp_path / "2")[1]
    right, wrong = (tiny, stepped) if target == "frozen" else (stepped, tiny)
    noise = retain_target == "noise"
    assert logged == pytest.approx(second(right, noise), rel=1e-3)
    assert logged != pytest.approx(second(wrong, noise), rel=1e-2)
    assert logged != pytest.approx(second(right, not noise), rel=1e-2)
