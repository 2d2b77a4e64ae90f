"""A model that is an edit of its base: at what strength, and what is refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from erase.cli.main import main
from tests.cli.test_attack import refused as attack_refused
from tests.cli.test_main import fails


@pytest.fixture
def lora(tmp_path: Path) -> str:
    up, down = torch.ones(32, 1, 1, 1), 0.1 * torch.ones(1, 4, 3, 3)
    parts = {"lora_up.weight": up, "lora_down.weight": down}
    save_file({f"lora_unet_conv_in.{k}": v for k, v in parts.items()}, tmp_path / "x.safetensors")
    return str(tmp_path / "x.safetensors")


def test_strength_0_makes_the_bases_images(lora: str, tiny_folder: Path, tmp_path: Path) -> None:
    base = str(tiny_folder)
    ways = {
        "base": ["--model", base],
        "none": ["--model", lora, "--base", base, "--strength", "0"],
        "half": ["--model", lora, "--base", base, "--strength", "0.5"],
    }
    for name, given in ways.items():
        sampling = ["--sampling-steps", "2", "--guidance-scale", "1", "--device", "cpu"]
        place = ["--count", "1", "--out", str(tmp_path / name)]
        main(["generate", *given, "--prompt", "a church", *sampling, *place])
    base_, none, half = ((tmp_path / name / "0.png").read_bytes() for name in ways)
    assert base_ == none
    assert base_ != half


def test_mistakes(lora: str, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    look = ["generate", "--prompt", "x", "--device", "cpu", "--model"]
    base = ["--base", str(tiny_folder)]
    assert "is a LoRA: add --base" in fails(capsys, [*look, lora])
    assert "is a LoRA: add --base" in attack_refused(capsys, lora, "--concept", "church")
    assert "not a number" in fails(capsys, [*look, lora, *base, "--strength", "inf"])
    said = fails(capsys, [*look, str(tiny_folder), "--strength", "0.5"])
    assert "--strength has no effect on a whole model" in said
    said = attack_refused(capsys, str(tiny_folder), "--concept", "church", "--strength", "0.5")
    assert "--strength has no effect on a whole model" in said
    assert "--base has no effect" in fails(capsys, [*look, str(tiny_folder), *base])
    train = ["generate", "--concept", "a church", "--anchor", "a truck", *base]
    assert "--base has no effect without --prompt or --set" in fails(capsys, train)
