"""ESD's target and its noisy latents against the equations computed step by step."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from erase.diffusion import Diffusion
from erase.methods.esd import Config, erase, target
from erase.recipe import load_recipe
from erase.weights import in_scope
from tests.methods.data import make_data, make_fit, moved, weights


@pytest.fixture(params=["tiny", "tiny_v"])
def d(request: pytest.FixtureRequest) -> Diffusion:
    model: Diffusion = request.getfixturevalue(request.param)
    return model


def noise_of(d: Diffusion, v: torch.Tensor, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """ε from the network's output: itself, or √ᾱ·v + √(1-ᾱ)·x_t."""
    if d.pipeline.scheduler.config.prediction_type == "epsilon":
        return v
    a = d.pipeline.scheduler.alphas_cumprod[t].view(-1, 1, 1, 1)
    return a.sqrt() * v + (1 - a).sqrt() * x_t


def test_the_papers_target_in_noise_whatever_the_model_predicts(d: Diffusion) -> None:
    x_t, t = torch.randn(2, 4, 8, 8), torch.tensor([600, 30])
    c, empty = d.embed(["a church", "one church"]), d.embed(["", ""])
    with torch.no_grad():
        e_c, e_0 = (noise_of(d, d.denoiser(x_t, t, e.hidden).sample, x_t, t) for e in (c, empty))
        # ε_θ0(x_t|∅) - η·(ε_θ0(x_t|c) - ε_θ0(x_t|∅)), equation 8
        expected = e_0 - 1.5 * (e_c - e_0)
        found = target(d, x_t, t, c, empty, empty, 1.5)
    torch.testing.assert_close(noise_of(d, found, x_t, t), expected, rtol=1e-4, atol=1e-5)


def test_the_rewrite_at_eta_2_is_the_paper_at_eta_1(d: Diffusion) -> None:
    x_t, t = torch.randn(2, 4, 8, 8), torch.tensor([600, 30])
    c, empty = d.embed(["a church", "one church"]), d.embed(["", ""])
    paper = target(d, x_t, t, c, empty, empty, 1.0)
    rewrite = target(d, x_t, t, c, empty, c, 2.0)
    torch.testing.assert_close(paper, rewrite, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("done", [0, 3])
def test_latents_are_denoised_by_ddim(d: Diffusion, done: int, guidance: float) -> None:
    """x_{t'} = √ᾱ' x̂_0 + √(1-ᾱ') ε̂, arXiv 2010.02502 equation 12 with σ = 0."""
    c, empty = d.embed(["a church"]), d.embed([""])
    noise = d.draw_noise(1, torch.Generator().manual_seed(4))
    x_t, t, gap = d.denoise_to(done, c, empty, steps=10, guidance=guidance, noise=noise)
    abar = d.pipeline.scheduler.alphas_cumprod
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(4))
    times = [901 - 100 * i for i in range(10)]
    for i in range(done):
        now = torch.tensor([times[i]])
        with torch.no_grad():
            e_c, e_0 = (
                noise_of(d, d.denoiser(x, now, e.hidden).sample, x, now) for e in (c, empty)
            )
        e = e_0 + guidance * (e_c - e_0)
        a, b = abar[times[i]], abar[times[i + 1]]
        x = b.sqrt() * (x - (1 - a).sqrt() * e) / a.sqrt() + (1 - b).sqrt() * e
    torch.testing.assert_close(x_t, x, rtol=1e-3, atol=1e-4)
    assert t.tolist() == [times[done]]
    assert times[done] + gap == (times[done - 1] if done else 1000)


@pytest.mark.parametrize("name", ["esd-x", "esd-x-strict", "esd-u", "esd-all", "esd-2025-u"])
def test_a_variant_moves_its_own_layers(tiny: Diffusion, name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, {"x_t_steps": 3, "steps": 2})
    before = weights(tiny)
    data = make_data(tiny, batch_size=1)
    erase(tiny, data, recipe.config, make_fit(tiny, recipe.scope, tmp_path))
    changed = moved(before, tiny)
    assert changed and all(in_scope(recipe.scope, n) for n in changed)
    if name == "esd-x-strict":
        assert all(".attn2.to_k." in n or ".attn2.to_v." in n for n in changed)
    if name == "esd-u":
        assert not any("attn2" in n or n.startswith(("conv_out", "time_embed")) for n in changed)


@pytest.mark.parametrize("origin", ["a house", ""])
def test_the_first_loss_is_the_distance_to_the_target(
    tiny: Diffusion, origin: str, tmp_path: Path
) -> None:
    import json

    base = copy.deepcopy(tiny.denoiser)
    config = Config(erase_from=origin, base_term="from", eta=2.0, x_t_between=False, x_t_steps=1)
    erase(tiny, make_data(tiny, batch_size=1), config, make_fit(tiny, "full", tmp_path, steps=1))
    row = json.loads((tmp_path / "train.jsonl").read_text().splitlines()[0])

    from erase.seeding import generator

    g = generator(0, "esd", 0)
    torch.randint(1, (), generator=g)
    x_t, t = torch.randn(1, 4, 8, 8, generator=g), torch.tensor([1])
    c, house, empty = (tiny.embed([p]) for p in ("a church", origin, ""))
    with torch.no_grad():
        e = {n: base(x_t, t, p.hidden).sample for n, p in (("c", c), ("from", house), ("", empty))}
    wanted = e["from"] - 2.0 * (e["c"] - e[""])
    assert row["loss"] == pytest.approx((e["from"] - wanted).square().mean().item(), rel=1e-4)


def test_latents_have_the_size_asked_for(tiny: Diffusion, tmp_path: Path) -> None:
    from dataclasses import replace

    seen: list[tuple[int, ...]] = []
    hook = tiny.denoiser.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape))
    data = replace(make_data(tiny, batch_size=1), size=32)
    erase(tiny, data, Config(x_t_steps=2), make_fit(tiny, "xattn", tmp_path, steps=1))
    hook.remove()
    assert seen and {shape[2:] for shape in seen} == {(16, 16)}
