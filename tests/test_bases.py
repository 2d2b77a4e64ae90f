"""Stable Diffusion 2 and XL behind the same boundary, against diffusers' own pipelines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.images.request import Sampler, Shot
from erase.methods import edits, list_methods, load_method
from erase.runtime.errors import UserError
from tests.methods.data import PAIRS, fit_for, make_data, moved, weights
from tests.methods.test_others import quick
from tests.tiny import tiny_sd2, tiny_sdxl

BASES = {"sd2": tiny_sd2, "sdxl": tiny_sdxl}


@pytest.fixture(scope="module", params=BASES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return BASES[request.param](tmp_path_factory.mktemp("bases") / request.param)


@pytest.fixture
def base(folder: Path) -> Diffusion:
    return Diffusion.load(str(folder))


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_images_are_those_of_the_stock_pipeline(
    folder: Path, base: Diffusion, guidance: float
) -> None:
    from diffusers import DDIMScheduler, DiffusionPipeline

    stock = DiffusionPipeline.from_pretrained(folder)
    stock.scheduler = DDIMScheduler.from_config(stock.scheduler.config)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(7))
    theirs = stock(
        "a church", num_inference_steps=4, guidance_scale=guidance, latents=noise, output_type="np"
    ).images
    shot = Shot("a church", seed=7)
    ours = base.sample([shot], Sampler("ddim", 4, guidance))
    expected = (theirs * 255).round().astype(int)
    assert np.abs(ours.astype(int) - expected).max() <= 1
    # A second image changes nothing about the first, whatever its prompt.
    two = base.sample([shot, Shot("", seed=8)], Sampler("ddim", 4, guidance))
    assert np.abs(two[0].astype(int) - expected[0]).max() <= 1


def test_embeddings_are_those_of_the_stock_pipeline(tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    folder = tiny_sdxl(tmp_path / "sdxl")
    stock = StableDiffusionXLPipeline.from_pretrained(folder)
    ours = Diffusion.load(str(folder))
    hidden, _, pooled, _ = stock.encode_prompt("a church", do_classifier_free_guidance=True)
    found = ours.embed(["a church", "a long way from a truck"])
    assert found.hidden.shape == (2, 77, 80)
    torch.testing.assert_close(found.hidden[:1], hidden)
    torch.testing.assert_close(found.added["pooled"][:1], pooled)
    _, hidden, _, pooled = stock.encode_prompt("a church", do_classifier_free_guidance=True)
    empty = ours.unconditional()
    assert torch.equal(empty.hidden, hidden) and torch.equal(empty.added["pooled"], pooled)
    assert float(ours.embed([""]).hidden.abs().max()) > 0  # a prompt like any other


def test_noise_is_added_on_the_training_schedule_whatever_the_sampler(base: Diffusion) -> None:
    x0, noise = torch.randn(2, 3, 4, 8, 8)
    t = torch.tensor([0, 500, 999])
    beta = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    a = torch.cumprod(1 - beta, 0)[t].view(-1, 1, 1, 1)
    x_t = base.add_noise(x0, noise, t)
    torch.testing.assert_close(x_t, a.sqrt() * x0 + (1 - a).sqrt() * noise, rtol=1e-4, atol=1e-5)


def test_latents_of_another_sampler_are_not_clipped(tmp_path: Path) -> None:
    """An Euler scheduler's config says nothing of clipping, which DDIM's own default would do."""
    import json

    folder = tiny_sdxl(tmp_path / "sdxl")
    file = folder / "scheduler" / "scheduler_config.json"
    said = {k: v for k, v in json.loads(file.read_text()).items() if k != "clip_sample"}
    shot, sampler = [Shot("a church", seed=7)], Sampler("ddim", 3, 1.0)
    expected = Diffusion.load(str(folder)).sample(shot, sampler)
    file.write_text(json.dumps(said))
    assert np.array_equal(Diffusion.load(str(folder)).sample(shot, sampler), expected)


def test_large_images_go_through_the_autoencoder_a_few_at_a_time(
    base: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    latents = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    whole, images = base.encode(pixels), base.decode(latents)
    seen: list[int] = []
    base.pipeline.vae.encoder.register_forward_pre_hook(lambda m, a: seen.append(len(a[0])))
    monkeypatch.setattr("erase.diffusion.memory.VAE_PIXELS", 2 * 16 * 16)
    torch.testing.assert_close(base.encode(pixels), whole, rtol=1e-4, atol=1e-5)
    assert seen == [2, 2, 1]
    assert np.abs(base.decode(latents).astype(int) - images).max() <= 1


def test_latents_with_a_mean_are_refused(tmp_path: Path) -> None:
    import json

    folder = tiny_sdxl(tmp_path / "sdxl")
    file = folder / "vae" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "latents_mean": [0.1] * 4}))
    with pytest.raises(UserError, match="shifts its latents by a mean"):
        Diffusion.load(str(folder))


@pytest.mark.parametrize("method", filter(edits, list_methods()))
def test_every_method_moves_every_base(base: Diffusion, method: str, tmp_path: Path) -> None:
    module = load_method(method)
    data = make_data(base, *module.NEEDS.images)
    fit, part = fit_for(base, module, module.NEEDS.scope or "xattn", tmp_path)
    before = weights(base, part)
    module.erase(base, data, quick(method), fit)
    changed = moved(before, base, part)
    if part == "denoiser":
        assert changed and all(".attn2." in name for name in changed)
    else:  # of every text encoder
        assert {name.split(".")[0] for name in changed} == set(base.family.layout.part(part))


def test_an_inversion_learns_for_every_text_encoder(base: Diffusion) -> None:
    from erase.diffusion.inversion import Search, invert

    data = make_data(base, "forget")
    same = invert(base, data, Search(steps=1, tokens=1, lr=1e-12, end=False))
    torch.testing.assert_close(same.c.hidden, data.c.hidden, rtol=1e-4, atol=1e-5)
    assert torch.equal(same.tokens, base.text.positions([c for c, _ in PAIRS], "church"))
    learnt = invert(base, data, Search(steps=3, tokens=1, lr=0.5, end=False))
    # The word stands at position 2: what comes before it never sees it.
    assert torch.equal(learnt.c.hidden[0, :2], same.c.hidden[0, :2])
    widths = [encoder.config.hidden_size for _, encoder in base.text.encoders]
    after, before = (c.hidden[0, 2].split(widths) for c in (learnt.c, same.c))
    for a, b in zip(after, before, strict=True):
        assert not torch.allclose(a, b, atol=1e-2)


@pytest.mark.parametrize("make", BASES.values(), ids=BASES)
@pytest.mark.parametrize(
    "single", [pytest.param(False, marks=pytest.mark.slow), True], ids=["folder", "file"]
)
def test_all_stages(make: Callable[[Path], Path], single: bool, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    import erase
    from tests.tiny import tiny_single_file

    model = make(tmp_path / "model")
    if single:
        model = tiny_single_file(model, tmp_path / "model.safetensors")
    small: dict[str, Any] = {
        "forget_images": 2,
        "retain_images": 2,
        "sampling_steps": 2,
        "steps": 2,
        "batch_size": 2,
    }
    small |= {f"eval_{n}": 2 for n in ("forget", "retain", "neighbours", "general", "empty")}
    report = erase.run(
        model=str(model),
        concept="a church",
        anchor="a truck",
        recipe="salun-sd",
        out=str(tmp_path / "run"),
        **small,
    )
    assert report["summary"]["erased"]["ua"] is None  # no judge was asked for
    opened = DiffusionPipeline.from_pretrained(tmp_path / "run" / "model")
    image = opened("a church", num_inference_steps=1, output_type="np").images[0]
    assert np.isfinite(image).all() and image.shape == (16, 16, 3)
