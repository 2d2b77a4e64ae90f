"""``--low-memory``: less of everything, and still the base file's own values outside the mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

import erase
from erase.diffusion.losses import saliency_losses
from erase.diffusion.model import Diffusion
from erase.diffusion.scopes import scoped
from erase.formats.folder import read_state
from erase.methods import list_methods, load_method
from erase.recipes.recipe import flags, load_recipe
from erase.runtime.errors import UserError
from erase.unlearn.fit import Fit, Settings
from erase.unlearn.mask import Mask
from erase.unlearn.saliency import accumulate
from tests.methods.data import make_data, make_fit
from tests.tiny import tiny_sd, tiny_sdxl

KEYS = ("forget_images", "retain_images", "sampling_steps", "batch_size")
SMALL: dict[str, Any] = {**dict.fromkeys(KEYS, 2), "steps": 3, "lr": 1e-3}


def erased(model: Path, out: Path, **settings: Any) -> Path:
    stages = ("images", "mask", "train")
    erase.run(
        str(model),
        "a church",
        "a truck",
        "salun-sd",
        out=str(out),
        stages=stages,
        **{**SMALL, **settings},
    )
    return out


@pytest.mark.parametrize("kind", ["sd", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_what_is_saved_is_the_base_file_outside_the_mask(kind: str, tmp_path: Path) -> None:
    folder = tiny_sd(tmp_path / "model") if kind == "sd" else tiny_sdxl(tmp_path / "model")
    plain = erased(folder, tmp_path / "plain")
    small = erased(folder, tmp_path / "small", low_memory=True)
    base, mask = read_state(folder, "unet"), Mask.load(small / "mask.safetensors")
    theirs, ours = (read_state(run / "model", "unet") for run in (plain, small))
    inside = apart = total = 0.0
    for name, before in base.items():
        chosen = mask.dense(name)
        assert torch.equal(ours[name][~chosen], before[~chosen])
        inside += float((ours[name] != before)[chosen].sum())
        both = chosen & Mask.load(plain / "mask.safetensors").dense(name)
        apart += float((ours[name] - theirs[name])[both].abs().sum())
        total += float((theirs[name] - before)[both].abs().sum())
    assert inside > 0.95 * mask.count
    assert apart < 0.25 * total  # bf16's noise turns Adam's small steps around, no more
    losses = [
        json.loads((run / "train.jsonl").read_text().splitlines()[0])["loss"]
        for run in (plain, small)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_what_hardly_learns_hardly_moves(tiny_folder: Path, tmp_path: Path) -> None:
    """The masters start from the file's values, not from their rounding to bf16."""
    run = erased(tiny_folder, tmp_path / "run", low_memory=True, lr=1e-9)
    base, ours = (read_state(f, "unet") for f in (tiny_folder, run / "model"))
    for name, before in base.items():
        assert float((ours[name] - before).abs().max()) <= 3.1e-9 + 1e-7 * float(before.abs().max())


class Stop(Exception):
    pass


@pytest.mark.parametrize("optimizer", ["adam", "adam8bit"])
def test_a_cut_off_run_ends_with_the_same_bits(
    tiny_folder: Path, optimizer: str, tmp_path: Path
) -> None:
    """Masters and 8-bit moments are taken up from the checkpoint like everything else."""

    def trained(folder: Path, stop_at: int | None = None) -> dict[str, torch.Tensor]:
        d = Diffusion.load(str(tiny_folder))
        data = make_data(d, "forget", "retain")
        state = {k: v.clone() for k, v in d.denoiser.state_dict().items()}
        params = scoped(d.denoiser, "full")
        mask = Mask.full(params, d.denoiser, {"scope": "full"}).random(0.5, 0)
        d.lighten()
        settings = Settings(6, 1e-3, optimizer, checkpoint_every=2)  # type: ignore[arg-type]
        fit = Fit(settings, mask, folder, Accelerator(cpu=True), origin=state)

        def step(index: int, part: slice) -> dict[str, torch.Tensor]:
            if index == stop_at:
                raise Stop
            b, _ = data.batch(index, part)
            return {"loss": d.predict(b.x_t, b.t, b.c).square().mean()}

        fit(d.denoiser, step)
        return dict(fit.masters)

    whole = trained(tmp_path / "whole")
    with pytest.raises(Stop):
        trained(tmp_path / "cut", stop_at=5)
    again = trained(tmp_path / "cut")
    assert whole and all(torch.equal(again[name], value) for name, value in whole.items())


def test_saliency_in_parts_is_that_of_the_batch(tiny: Diffusion) -> None:
    data = make_data(tiny, "forget")
    found = []
    for at_once in (None, 1, 2):
        losses = saliency_losses(tiny, data, w=2.0, batch=3, seed=0, at_once=at_once)
        found.append(accumulate(scoped(tiny.denoiser, "full"), losses))
    for name, value in found[0].items():
        for other in found[1:]:
            torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


def test_magnitudes_are_those_of_whole_batches(tiny_folder: Path, tmp_path: Path) -> None:
    masks = []
    for name, more in (("whole", {}), ("parts", {"micro_batch": 1})):
        settings: dict[str, Any] = {
            **SMALL,
            "saliency_sum": "absolute",
            "saliency_batch": 2,
            **more,
        }
        out = tmp_path / name
        stages = ("images", "mask")
        erase.run(
            str(tiny_folder),
            "a church",
            "a hut",
            "salun-sd",
            out=str(out),
            stages=stages,
            **settings,
        )
        masks.append(Mask.load(out / "mask.safetensors"))
    assert all(torch.equal(masks[0].bits[n], masks[1].bits[n]) for n in masks[0].bits)


@pytest.mark.parametrize(
    "method", [m for m in list_methods() if "low_memory" in {f.name for f in flags(m)}]
)
def test_every_method_trains_so(tiny: Diffusion, method: str, tmp_path: Path) -> None:
    module = load_method(method)
    data = make_data(tiny, *module.NEEDS.images)
    tiny.lighten()
    fit = make_fit(tiny, "xattn", tmp_path)
    module.erase(tiny, data, module.Config(), fit)
    assert {v.dtype for v in fit.masters.values()} == {torch.float32}
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 2


def test_checkpointing_recomputes_the_same_gradients(tiny: Diffusion) -> None:
    x, t, c = torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), tiny.embed(["a church", "a dog"])
    found = []
    for light in (False, True):
        if light:
            tiny.lighten()
            tiny.denoiser.float()
        weight = tiny.denoiser.get_parameter("conv_in.weight").requires_grad_(True)
        weight.data = weight.data.to(torch.bfloat16).float()
        for p in tiny.denoiser.parameters():
            p.data = p.data.to(torch.bfloat16).float()
        loss = tiny.predict(x, t, c).square().mean()
        found.append(torch.autograd.grad(loss, weight)[0])
    torch.testing.assert_close(*found)


def test_the_flag_is_one_of_trained_methods_alone() -> None:
    assert load_recipe("salun-sd", {"low_memory": "true"}).low_memory
    with pytest.raises(UserError, match="'low_memory' is not a setting of the method uce"):
        load_recipe("uce", {"low_memory": "true"})
    with pytest.raises(UserError, match="not a setting of the method adv_unlearn"):
        load_recipe("adv-unlearn", {"low_memory": "true"})


def test_missing_extra_is_told_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from erase.runs.make import make_run

    monkeypatch.setattr("erase.runs.checks.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[8bit\]'"):
        make_run("mini", "church", overrides={"optimizer": "adam8bit"})
