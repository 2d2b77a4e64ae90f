"""ESD's target and its noisy latents against the equations computed step by step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.diffusion.scopes import in_scope
from erase.methods.esd import Config, erase, target
from erase.recipes.recipe import load_recipe
from erase.runs.checks import check
from erase.runs.make import make_run
from erase.runtime.errors import UserError
from erase.runtime.seeding import generator
from tests.methods.data import copied, losses, make_data, make_fit, moved, weights


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


SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.PNDMScheduler(**SD, skip_prk_steps=True, steps_offset=1),
        diffusers.EulerDiscreteScheduler(**SD, timestep_spacing="leading", steps_offset=1),
        diffusers.DDPMScheduler(**SD, clip_sample=False, steps_offset=1),
    ],
    ids=["PNDM", "Euler", "DDPM"],
)
@pytest.mark.parametrize("done", [0, 1, 4])
def test_latents_are_denoised_by_the_models_own_scheduler(
    tiny: Diffusion, scheduler: Any, done: int
) -> None:
    """As the stock pipeline has them when it comes to that step."""
    noise = tiny.draw_noise(1, torch.Generator().manual_seed(4))
    stock, seen = copy.copy(tiny.pipeline), []
    stock.scheduler = copy.deepcopy(scheduler)

    def keep(pipeline: Any, i: int, t: Any, found: dict[str, Any]) -> dict[str, Any]:
        seen.append(found["latents"])
        return found

    stock(
        "a church",
        latents=noise,
        num_inference_steps=8,
        guidance_scale=3.0,
        output_type="latent",
        generator=torch.Generator().manual_seed(5),
        callback_on_step_end=keep,
    )
    expected = seen[done - 1] if done else noise * stock.scheduler.init_noise_sigma
    if "Euler" in type(scheduler).__name__:  # to variance one: x_t / √(σ² + 1)
        expected = expected / (stock.scheduler.sigmas[done] ** 2 + 1) ** 0.5
    tiny.pipeline.scheduler = scheduler
    x_t, t, gap = tiny.denoise_to(
        done,
        tiny.embed(["a church"]),
        tiny.embed([""]),
        steps=8,
        guidance=3.0,
        noise=noise,
        own=True,
        generators=[torch.Generator().manual_seed(5)],
    )
    torch.testing.assert_close(x_t, expected, rtol=1e-4, atol=1e-4)
    assert t.tolist() == [stock.scheduler.timesteps[done]] and gap >= 124
    assert tiny.pipeline.scheduler is scheduler


def test_noise_between_the_steps_is_an_images_own(tiny: Diffusion) -> None:
    """However a batch is split: a sampler that draws anew at every step included."""
    tiny.pipeline.scheduler = diffusers.DDPMScheduler.from_config(tiny.pipeline.scheduler.config)
    noise = tiny.draw_noise(4, torch.Generator().manual_seed(4))

    def made(rows: slice) -> torch.Tensor:
        prompts = ["a church", "a truck", "a radio", "an owl"][rows]
        found, _, _ = tiny.denoise_to(
            3,
            tiny.embed(prompts),
            tiny.embed([""] * len(prompts)),
            steps=8,
            guidance=3.0,
            noise=noise[rows],
            own=True,
            generators=[torch.Generator().manual_seed(i) for i in range(4)][rows],
        )
        return found

    whole = made(slice(4))
    # A batch of another size rounds otherwise, which steps with guidance add up.
    halves = torch.cat([made(slice(2)), made(slice(2, 4))])
    torch.testing.assert_close(halves, whole, rtol=1.3e-6, atol=5e-5)
    assert (whole[0] - whole[1]).abs().max() > 0.1


def test_a_scheduler_off_the_noise_schedule_denoises_no_x_t(tiny: Diffusion) -> None:
    """PNDM knows nothing of a zero terminal SNR, even where its file speaks of one."""
    config = {**diffusers.PNDMScheduler(**SD).config, "rescale_betas_zero_snr": True}
    tiny.pipeline.scheduler = diffusers.PNDMScheduler.from_config(config)
    run = make_run("m", "a [church]", recipe="esd-2025-x")
    with pytest.raises(UserError, match="own scheduler .PNDMScheduler. .*--x-t-own-sampler false"):
        check(run, tiny)
    check(make_run("m", "a [church]", recipe="esd-x"), tiny)


def test_the_rewrites_recipes_are_the_rewrites() -> None:
    for name, scope in {
        "x": "xattn",
        "x-strict": "xattn-kv",
        "u": "noxattn-no-norms",
        "all": "full-no-norms",
    }.items():
        recipe = load_recipe(f"esd-2025-{name}")
        assert recipe.scope == scope and recipe.config.x_t_own_sampler
        assert (recipe.steps, recipe.lr, recipe.config.eta) == (200, 5e-5, 2.0)
    assert not load_recipe("esd-x").config.x_t_own_sampler


@pytest.mark.parametrize("name", ["esd-x", "esd-x-strict", "esd-u", "esd-all", "esd-2025-u"])
def test_a_variant_moves_its_own_layers(tiny: Diffusion, name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, {"x_t_steps": 3, "steps": 2})
    before = weights(tiny)
    data = make_data(tiny, batch_size=1)
    erase(tiny, data, recipe.config, make_fit(tiny, recipe.scope, tmp_path))
    changed = moved(before, tiny)
    assert changed and all(in_scope(recipe.scope, n) for n in changed)
    if name == "esd-2025-u":
        assert not any("norm" in n for n in changed)
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


@pytest.mark.parametrize("x_t_model", ["moving", "frozen"])
def test_who_denoises_x_t_shows_in_the_second_step(
    tiny: Diffusion, x_t_model: str, tmp_path: Path
) -> None:
    """Before the first step both models are the base."""

    config = Config(x_t_model=x_t_model, x_t_between=False, x_t_steps=6)  # type: ignore[arg-type]
    data, steps = make_data(tiny, batch_size=1), 3
    earlier, trained = copied(tiny), copied(tiny)
    for model, count in ((earlier, steps - 1), (trained, steps)):
        fit = make_fit(model, "full", tmp_path / str(count), steps=count, lr=0.02)
        erase(model, data, config, fit)
    g = generator(0, "esd", steps - 1)
    done = int(torch.randint(6, (), generator=g))
    assert done > 0  # else x_t is noise, whoever denoises
    noise = torch.randn(1, 4, 8, 8, generator=g)
    c, empty = tiny.embed(["a church"]), tiny.embed([""])

    @torch.no_grad()
    def third(sampling: Diffusion) -> float:
        x_t, t, _ = sampling.denoise_to(done, c, empty, steps=6, guidance=3.0, noise=noise)
        e_c, e_0 = (tiny.denoiser(x_t, t, e.hidden).sample for e in (c, empty))
        own = earlier.denoiser(x_t, t, c.hidden).sample
        return float((own - (e_0 - (e_c - e_0))).square().mean())

    right, wrong = (tiny, earlier) if x_t_model == "frozen" else (earlier, tiny)
    assert losses(tmp_path / str(steps))[-1] == pytest.approx(third(right), rel=1e-3)
    assert losses(tmp_path / str(steps))[-1] != pytest.approx(third(wrong), rel=1e-2)


@pytest.mark.parametrize("between", [True, False])
def test_t_lies_at_a_sampler_step_or_before_the_one_above(
    tiny: Diffusion, between: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[tuple[int, int]] = []
    trained: list[int] = []
    inner = Diffusion.denoise_to

    def denoise_to(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
        found = inner(*args, **kwargs)
        starts.append((int(found[1]), found[2]))
        return found

    monkeypatch.setattr(Diffusion, "denoise_to", denoise_to)

    def note(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            trained.append(int(args[1].flatten()[0]))

    hook = tiny.denoiser.register_forward_pre_hook(note)
    config = Config(x_t_between=between, x_t_steps=4, x_t_guidance=1.0)
    fit = make_fit(tiny, "xattn", tmp_path, steps=12, lr=1e-6)
    erase(tiny, make_data(tiny, batch_size=1), config, fit)
    hook.remove()
    assert len(starts) == len(trained) == 12 and len({t for t, _ in starts}) > 2
    # Four steps of 250 from 751 down to 1.
    assert {(t, gap) for t, gap in starts} <= {(751, 249), (501, 250), (251, 250), (1, 250)}
    away = [t - start for t, (start, _) in zip(trained, starts, strict=True)]
    assert all(0 <= d < gap for d, (_, gap) in zip(away, starts, strict=True))
    assert any(away) == between


def test_a_samplers_own_noise_is_not_the_first_noise_again(
    tiny: Diffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that differ by a trailing 0 seed the same draws."""
    seeds: list[int] = []
    inner = Diffusion.denoise_to

    def denoise_to(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor, int]:
        seeds.extend(g.initial_seed() for g in kwargs["generators"])
        return inner(*args, **kwargs)

    monkeypatch.setattr(Diffusion, "denoise_to", denoise_to)
    data = make_data(tiny, batch_size=2)
    erase(tiny, data, Config(x_t_steps=2), make_fit(tiny, "xattn", tmp_path, steps=2, lr=1e-6))
    starts = [generator(data.seed, "esd", index).initial_seed() for index in range(2)]
    assert len({*seeds, *starts}) == len(seeds) + len(starts) == 6
