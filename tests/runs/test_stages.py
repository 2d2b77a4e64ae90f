"""The saliency pass over a forget set, and the data that training sees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from erase.diffusion.data import Encoded, TrainingData, embed_all, encode_files
from erase.diffusion.fingerprint import model_fingerprint
from erase.diffusion.losses import saliency_losses
from erase.diffusion.model import Diffusion
from erase.diffusion.scopes import scoped
from erase.unlearn.saliency import accumulate
from tests.tiny import tensor


def data_of(d: Diffusion, count: int) -> TrainingData:
    g = torch.Generator().manual_seed(3)
    posterior = torch.randn(count, 2, 4, 8, 8, generator=g)
    posterior[:, 1] = 0.0  # no sampling noise, so that the reference below can repeat it
    encoded = Encoded(posterior, torch.arange(count) % 2)
    prompts = embed_all(d, ["a church", "one church"])
    empty = embed_all(d, [""])
    return TrainingData(
        diffusion=d,
        images={"forget": encoded, "retain": encoded},
        pairs=(("a church", "a truck"), ("one church", "one truck")),
        retain_prompts=("a church", "one church"),
        words=("church",) * 2,
        c=prompts,
        anchor_c=prompts,
        retain_c=prompts,
        empty_c=empty,
        batch_size=2,
        seed=5,
    )


@pytest.mark.parametrize("w", [0.0, 7.5])
def test_saliency_is_the_gradient_of_the_guided_loss(tiny: Diffusion, w: float) -> None:
    from erase.runtime.seeding import cycle, generator

    data = data_of(tiny, 5)
    params = scoped(tiny.denoiser, "xattn")
    losses = saliency_losses(tiny, data, w=w, batch=2, seed=5)
    measured = accumulate(params, losses)

    unet = tiny.denoiser
    unet.requires_grad_(True)
    abar = tiny.pipeline.scheduler.alphas_cumprod
    total = torch.zeros(())
    for number, rows in enumerate(cycle(5, 5, 0, 5, "saliency").split(2)):
        g = generator(5, "saliency", number)
        x0 = data.images["forget"].posterior[rows, 0]
        _, noise = torch.randn(2, *x0.shape, generator=g)
        t = torch.randint(1000, (len(rows),), generator=g)
        a = abar[t].view(-1, 1, 1, 1)
        x_t = a.sqrt() * x0 + (1 - a).sqrt() * noise
        empty = tiny.embed([""]).hidden.expand(len(rows), -1, -1)
        c = data.c.hidden[data.images["forget"].prompt[rows]]
        guided = (1 + w) * unet(x_t, t, c).sample - w * unet(x_t, t, empty).sample
        # Every image counts alike: the short last batch of one weighs half of a full one.
        total = total + (noise - guided).square().mean() * len(rows) / 2
    grads = torch.autograd.grad(total, list(params.values()))
    unet.requires_grad_(False)
    for value, grad in zip(measured.values(), grads, strict=True):
        torch.testing.assert_close(value, grad.abs(), rtol=2e-3, atol=1e-6 + 1e-5 * w)


def test_batches_depend_on_seed_and_step_alone(tiny: Diffusion) -> None:
    one, two = data_of(tiny, 5), data_of(tiny, 5)
    two.batch(0)
    for a, b in zip(one.batch(7), two.batch(7), strict=True):
        for name in vars(a):
            assert torch.equal(tensor(getattr(a, name)), tensor(getattr(b, name))), name
    forget, retain = one.batch(7)
    assert not torch.equal(forget.target, one.batch(8)[0].target)
    assert not torch.equal(forget.target, retain.target)


def test_a_step_has_as_many_images_of_both_roles(tiny: Diffusion) -> None:
    forget, retain = data_of(tiny, 5).batch(0)
    assert forget.x_t.shape == forget.target.shape == retain.x_t.shape == (2, 4, 8, 8)
    assert forget.c.hidden.shape == retain.c.hidden.shape
    for b in (forget, retain):
        assert b.t.shape == (2,) and 0 <= int(b.t.min()) <= int(b.t.max()) < 1000


def test_files_are_encoded_in_order(tiny: Diffusion, tmp_path: Path) -> None:
    files = []
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        files.append(tmp_path / f"{i}.png")
    encoded = encode_files(tiny, files, [0, 1, 0], 16, batch=2)
    alone = tiny.encode(np.asarray(Image.open(files[1]))[None])
    torch.testing.assert_close(encoded.posterior[1:2], alone, rtol=1e-4, atol=1e-5)
    assert encoded.prompt.tolist() == [0, 1, 0]


def test_a_model_is_more_than_its_weights(tiny: Diffusion, tiny_folder: Path) -> None:
    from diffusers import DDIMScheduler

    before = model_fingerprint(tiny)
    assert before == model_fingerprint(Diffusion.load(str(tiny_folder), "cpu"))
    config = {**tiny.pipeline.scheduler.config, "beta_end": 0.02}
    tiny.pipeline.scheduler = DDIMScheduler.from_config(config)
    after = model_fingerprint(tiny)
    assert after["settings"] != before["settings"]
    assert after | {"settings": before["settings"]} == before
