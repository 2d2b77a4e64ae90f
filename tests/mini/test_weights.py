"""The bundled model and judges, as committed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from erase.mini import bars, world

WEIGHTS = world.HERE / "weights"


def test_all_is_half_precision_safetensors_within_fifty_six_megabytes() -> None:
    files = [f for f in WEIGHTS.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 56e6
    assert not [f for f in files if f.suffix in (".bin", ".pt", ".ckpt", ".pkl")]
    for file in WEIGHTS.rglob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            kinds = {opened.get_slice(k).get_dtype() for k in opened.keys()}  # noqa: SIM118
        assert kinds <= {"F16", "I64"}, file


def test_stock_diffusers_opens_it_with_the_classes_of_stable_diffusion() -> None:
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(WEIGHTS / "model")
    found = {n: type(c).__name__ for n, c in pipeline.components.items() if c is not None}
    assert found == {
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
        "unet": "UNet2DConditionModel",
        "scheduler": "DDIMScheduler",
    }
    assert pipeline.scheduler.config.prediction_type == "epsilon"
    ids = pipeline.tokenizer("an ink drawing of an owl").input_ids
    import open_clip

    assert ids == open_clip.tokenize(["an ink drawing of an owl"])[0, : len(ids)].tolist()
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("an ink drawing of an owl", num_inference_steps=2).images[0].size == (64, 64)


@pytest.mark.parametrize(("name", "axis"), [("object", 0), ("style", 1), ("strict", 0)])
def test_judges_know_held_out_renders(name: str, axis: int) -> None:
    spec = f"torchvision:shufflenet_v2_x0_5@{WEIGHTS / 'judges' / name}.safetensors"
    images = bars.renders("heldout", 4)
    mean, _, _ = bars.share(bars.labels(spec, images), axis)
    assert mean >= 0.97


def test_the_tiny_clip_knows_objects_zero_shot() -> None:
    spec = f"open_clip:mini@{WEIGHTS / 'judges' / 'clip'}"
    found = bars.labels(spec, bars.renders("heldout", 2), world.OBJECT_LABELS)
    assert bars.share(found, 0)[0] >= 0.9


def test_the_model_draws_what_it_is_asked_for() -> None:
    images = bars.samples(WEIGHTS / "model", 1)
    spec = f"torchvision:shufflenet_v2_x0_5@{WEIGHTS / 'judges' / 'object'}.safetensors"
    assert bars.share(bars.labels(spec, images), 0)[0] >= 0.9


def test_the_class_conditional_model_draws_the_class_that_it_is_told() -> None:
    images = bars.told_samples(WEIGHTS / "class", 2)
    assert images.shape == (24, 32, 32, 3)
    spec = f"torchvision:shufflenet_v2_x0_5@{WEIGHTS / 'judges' / 'object'}.safetensors"
    cells = [(name,) for name in world.OBJECT_LABELS]
    assert bars.share(bars.labels(spec, images), 0, cells)[0] >= 0.9


def test_share_counts_by_cell() -> None:
    found = [obj for obj, _ in bars.CELLS for _ in range(2)]
    assert bars.share(found, 0) == (1.0, 1.0, "tropical-fish/noto")
    found[5] = "church"
    mean, worst, cell = bars.share(found, 0)
    assert mean == pytest.approx(95 / 96)
    assert (worst, cell) == (0.5, "tropical-fish/flat")


def test_distance_is_zero_between_equal_sets_and_grows() -> None:
    images = bars.renders("heldout", 2)
    other = np.roll(images, 20, axis=2)
    near = bars.distance(WEIGHTS / "judges", images, images)
    assert near == pytest.approx(0, abs=1e-3)
    assert bars.distance(WEIGHTS / "judges", images, 255 - other) > 10 * max(near, 1e-3)


def test_a_cut_off_stage_of_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    from erase.mini.optimise import optimise

    def net() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Linear(3, 2)

    def loss_of(module: torch.nn.Module, stop: int | None = None):  # type: ignore[no-untyped-def]
        def loss(step: int, generator: torch.Generator) -> torch.Tensor:
            if step == stop:
                raise KeyboardInterrupt
            value: torch.Tensor = module(torch.randn(4, 3, generator=generator)).square().mean()
            return value

        return loss

    how = {"steps": 9, "lr": 0.1, "seed": 0, "ema": 0.9, "every": 2}
    whole, cut, again = net(), net(), net()
    optimise("x", whole, loss_of(whole), work=tmp_path / "a", **how)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        optimise("x", cut, loss_of(cut, 5), work=tmp_path / "b", **how)  # type: ignore[arg-type]
    optimise("x", again, loss_of(again), work=tmp_path / "b", **how)  # type: ignore[arg-type]
    assert torch.equal(whole.weight, again.weight)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    return bars.measure(WEIGHTS)


@pytest.mark.slow
def test_the_bars(measured: dict[str, Any]) -> None:
    assert measured["n"] == 2400
    for name in ("object", "style"):
        assert measured[f"{name} judge, renders"]["mean"] >= 0.99
    assert measured["object judge, base"]["mean"] >= 0.98
    assert measured["style judge, base"]["mean"] >= 0.97
    assert measured["object judge, base"]["worst"] >= 0.90
    assert measured["style judge, base"]["worst"] >= 0.90
    assert measured["strict judge, base"]["mean"] >= 0.95
    assert measured["object judge, class-conditional"]["mean"] >= 0.95
    assert measured["object judge, class-conditional"]["worst"] >= 0.85


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True, reason="2.6 times the reconstructions' distance: see docs/results.md"
)
def test_the_bar_that_is_missed(measured: dict[str, Any]) -> None:
    floor = measured["FID[mini] reconstructions to held-out renders"]
    assert measured["FID[mini] base to held-out renders"] <= 2 * floor
