"""SalUn's loss against the equation computed by hand, and its effect on a tiny model."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from erase.diffusion.data import Encoded, TrainingData, embed_all
from erase.diffusion.model import Diffusion
from erase.diffusion.scopes import scoped
from erase.methods.salun import Config, erase, loss
from erase.recipes.recipe import load_recipe
from erase.runs.run import roles_of
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
        diffusion=tiny,
        images={"forget": encoded(2), "retain": encoded(2)},
        pairs=(("a church", "a truck"), ("one church", "one truck")),
        retain_prompts=("a radio", "a dog"),
        words=("church",) * 2,
        c=embed_all(tiny, ["a church", "one church"]),
        anchor_c=embed_all(tiny, ["a truck", "one truck"]),
        retain_c=embed_all(tiny, ["a radio", "a dog"]),
        batch_size=2,
        seed=0,
        empty_c=embed_all(tiny, [""]),
    )


def by_hand(
    unet: torch.nn.Module, data: TrainingData, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The equation, branch by branch: (forget, retain without α)."""
    b, r = data.batch(step)
    anchor_c = data.anchor_c[b.prompt].hidden
    forget = unet(b.x_t, b.t, b.c.hidden).sample - unet(b.x_t, b.t, anchor_c).sample.detach()
    retain = unet(r.x_t, r.t, r.c.hidden).sample - r.target
    return forget.pow(2).mean(), retain.pow(2).mean()


def terms(
    d: Diffusion, data: TrainingData, alpha: float, retain_model: Diffusion | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of the first step, answered by the model itself."""
    b, r = data.batch(0)
    models = {"anchor_model": d, "retain_model": retain_model}
    return loss(d, b, data.anchor_c[b.prompt], r, alpha=alpha, **models)  # type: ignore[arg-type]


def gradients(d: Diffusion, value: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(value, list(d.denoiser.parameters())))


def test_loss_and_gradient_equal_the_equation(tiny: Diffusion, data: TrainingData) -> None:
    tiny.denoiser.requires_grad_(True)
    forget, retain = terms(tiny, data, 0.3)
    expected = by_hand(tiny.denoiser, data, 0)
    torch.testing.assert_close(forget, expected[0])
    torch.testing.assert_close(retain, 0.3 * expected[1])
    ours = gradients(tiny, forget + retain)
    theirs = gradients(tiny, expected[0] + 0.3 * expected[1])
    tiny.denoiser.requires_grad_(False)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_retain_can_match_the_frozen_model(tiny: Diffusion, data: TrainingData) -> None:
    assert float(terms(tiny, data, 1.0, retain_model=tiny)[1]) < 1e-10


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
    with torch.no_grad():
        first = float(by_hand(model.denoiser, data, 500)[0])
    config = Config(alpha=0.1, target=target)  # type: ignore[arg-type]
    run(model, data, tmp_path, config, mask)
    with torch.no_grad():
        last = float(by_hand(model.denoiser, data, 500)[0])
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
    b, r = data.batch(1)

    @torch.no_grad()
    def second(anchor_model: Diffusion, noise: bool) -> float:
        wanted = anchor_model.denoiser(b.x_t, b.t, data.anchor_c[b.prompt].hidden).sample
        forget = (stepped.denoiser(b.x_t, b.t, b.c.hidden).sample - wanted).square().mean()
        own, kept = (m.denoiser(r.x_t, r.t, r.c.hidden).sample for m in (stepped, tiny))
        retain = (own - (r.target if noise else kept)).square().mean()
        return float(forget + 0.5 * retain)

    logged = losses(tmp_path / "2")[1]
    right, wrong = (tiny, stepped) if target == "frozen" else (stepped, tiny)
    noise = retain_target == "noise"
    assert logged == pytest.approx(second(right, noise), rel=1e-3)
    assert logged != pytest.approx(second(wrong, noise), rel=1e-2)
    assert logged != pytest.approx(second(right, not noise), rel=1e-2)


def test_without_a_retain_term_no_retained_image_is_asked_for(
    tiny: Diffusion, data: TrainingData, tmp_path: Path
) -> None:
    recipe = load_recipe("salun-sd", {"alpha": 0.0})
    assert roles_of(recipe) == ("forget",)
    assert roles_of(load_recipe("salun-sd")) == ("forget", "retain")
    alone = replace(data, images={"forget": data.images["forget"]})
    model = copied(tiny)
    fit = make_fit(model, "full", tmp_path, steps=2, lr=0.02)
    erase(model, alone, Config(alpha=0.0, target="frozen"), fit)
    # The first step, as the equation has it.
    b = data.draw("forget", 0)
    with torch.no_grad():
        own, wanted = (
            tiny.denoiser(b.x_t, b.t, c[b.prompt].hidden).sample for c in (data.c, data.anchor_c)
        )
    assert losses(tmp_path)[0] == pytest.approx(float((own - wanted).square().mean()), rel=1e-4)
