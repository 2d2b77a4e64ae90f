"""Models that are told classes, against plain computations with their networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from erase.diffusion.losses import saliency_losses
from erase.diffusion.model import Diffusion
from erase.diffusion.sides import check_sides
from erase.images.request import Sampler
from erase.runtime.errors import UserError
from tests.class_models import MODELS, opened
from tests.methods.data import make_data
from tests.tiny import CLASSES, tiny_class_unet


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Diffusion:
    return opened(request.param, tmp_path_factory.mktemp("models") / request.param)


def plain(model: Diffusion, x_t: Tensor, t: Tensor, labels: list[int]) -> Tensor:
    """ε_θ(x_t|c) by the network itself, without what it says of variances."""
    network: Any = model.denoiser
    found: Tensor = network(x_t, t, class_labels=torch.tensor(labels)).sample
    return found[:, : model.channels]


def test_prompts_are_labels(model: Diffusion) -> None:
    null = model.reader.ids([""])[0]
    assert null == (4 if len(model.reader.facts()[0]) == 4 else 1000)
    c = model.embed(["owl", "", "church"])
    assert c.hidden.tolist() == [3, null, 0] and c.float().hidden.dtype == torch.int64
    assert model.unconditional().hidden.tolist() == [null]
    with pytest.raises(UserError, match=r"no class 'chruch'\. Did you mean 'church'\?"):
        model.embed(["chruch"])
    with pytest.raises(UserError, match="is told a class and has no text encoder"):
        _ = model.text


@torch.no_grad()
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_guided_sampling_by_hand(model: Diffusion, guidance: float) -> None:
    """Two steps of DDIM: x_0 of e = e_∅ + s·(e_c - e_∅), then noise of the next level."""
    null, abar = int(model.unconditional().hidden), model.family.schedule.alphas_cumprod  # type: ignore[attr-defined]
    scheduler = model.family.sampler("ddim")
    x = noise = model.noise([7])
    c, empty = model.embed(["truck"]), model.unconditional() if guidance > 1 else None
    found = model.family.denoise(scheduler, noise, c, empty, steps=2, guidance=guidance)
    clips = bool(scheduler.config.clip_sample)
    for now, a_next in ((500, float(abar[0])), (0, float(scheduler.final_alpha_cumprod))):
        t, a = torch.tensor([now]), float(abar[now])
        e = plain(model, x, t, [1])
        if guidance > 1:
            e_null = plain(model, x, t, [null])
            e = e_null + guidance * (e - e_null)
        x0 = (x - (1 - a) ** 0.5 * e) / a**0.5
        if clips:  # and the noise that belongs to it
            x0 = x0.clamp(-1, 1)
            e = (x - a**0.5 * x0) / (1 - a) ** 0.5
        x = a_next**0.5 * x0 + (1 - a_next) ** 0.5 * e
    assert clips == (model.stride == 1)
    torch.testing.assert_close(found, x, rtol=1e-3, atol=1e-3)


def test_saliency_by_hand(model: Diffusion) -> None:
    """MSE(ε, (1+w)·ε_θ(x_t|c) - w·ε_θ(x_t|∅)), both branches with their gradient."""
    pairs = (("church", "truck"),)
    data = make_data(model, "forget", pairs=pairs, retained=CLASSES[1:])
    params = model.scoped("full")
    for p in params.values():
        p.requires_grad_(True)
    first = next(iter(saliency_losses(model, data, w=2.0, batch=2, seed=0)))
    from erase.runtime.seeding import cycle, generator

    index = cycle(5, 5, 0, 0, "saliency")[:2]
    [b] = data.noised({"forget": index}, generator(0, "saliency", 0))
    null = int(model.unconditional().hidden)
    e, e_null = (plain(model, b.x_t, b.t, [label] * 2) for label in (0, null))
    by_hand = (3 * e - 2 * e_null - b.target).pow(2).mean()
    wanted = torch.autograd.grad(by_hand, list(params.values()), allow_unused=True)
    got = torch.autograd.grad(first(), list(params.values()), allow_unused=True)
    for a, other in zip(got, wanted, strict=True):
        assert (a is None) == (other is None)
        if a is not None and other is not None:
            torch.testing.assert_close(a, other, rtol=1e-3, atol=1e-5)
    for p in params.values():
        p.requires_grad_(False)


def test_scopes_of_cross_attention_are_refused(model: Diffusion) -> None:
    assert len(model.scoped("full")) == len(list(model.denoiser.parameters()))
    for scope in ("xattn", "xattn-kv", "noxattn", "noxattn-core", "noxattn-no-norms"):
        with pytest.raises(UserError, match="does not have: choose another --recipe"):
            model.scoped(scope)


def test_a_model_without_a_null_class_has_no_guidance(tmp_path: Path) -> None:
    folder = tiny_class_unet(tmp_path / "model", null=None)
    file = folder / "classes.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "classes": [*CLASSES, "dog"]}))  # every label is a class
    model = Diffusion.load(str(folder))
    assert model.embed(["dog"]).hidden.tolist() == [4]
    with pytest.raises(UserError, match="has no null class"):
        model.unconditional()


def test_what_names_the_classes_is_asked_for(tmp_path: Path) -> None:
    folder = tiny_class_unet(tmp_path / "model")
    file = folder / "classes.json"
    told = json.loads(file.read_text())
    for odd in ("b\nimport os", "a "):
        file.write_text(json.dumps({**told, "classes": [odd, *told["classes"][1:]]}))
        with pytest.raises(UserError, match="begins or ends with a space, or has characters"):
            Diffusion.load(str(folder))
    file.unlink()
    with pytest.raises(UserError, match=r"has no classes\.json, which names its classes"):
        Diffusion.load(str(folder))


def test_sides_that_a_model_cannot_make_are_told_before_any_image(model: Diffusion) -> None:
    sampler, multiple = Sampler(), model.family.multiple
    check_sides(model, sampler, [(2 * multiple, 2 * multiple), (None, None)])
    with pytest.raises(UserError, match=f"{multiple + 1} px is not divisible by {multiple}"):
        check_sides(model, Sampler(size=multiple + 1))
    oblong = [(2 * multiple, 3 * multiple)]
    if model.family.square:  # a DiT
        with pytest.raises(UserError, match="only square images"):
            check_sides(model, sampler, oblong)
    else:
        check_sides(model, sampler, oblong)
    check_sides(model, Sampler(size=2 * multiple), oblong)  # whose size goes first


def test_latents_are_not_clipped_whatever_a_scheduler_does_by_default(
    model: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.pipeline, "scheduler", DDPMScheduler())
    assert model.family.sampler("ddim").config.clip_sample == (model.stride == 1)
