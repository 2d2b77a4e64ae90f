"""A LyCORIS file carries the whole edit and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from erase.formats.base import open_base
from erase.formats.export import export
from erase.formats.foreign import included_state
from erase.runtime.errors import UserError
from tests.formats.edits import edited


def test_the_whole_edit_comes_back(tiny_folder: Path, tmp_path: Path) -> None:
    state = edited(tiny_folder, tmp_path / "e", share=0.3)
    base, file = open_base(str(tiny_folder)), tmp_path / "x.safetensors"
    before = base.denoiser_state()
    said = export(str(tmp_path / "e"), str(file), kind="lycoris", base=str(tiny_folder))
    moved = sum(int((state[k] != before[k]).sum()) for k in state)
    assert f"{moved:,} moved weights" in said
    found = included_state(file, base)
    for name, value in found.items():
        still = state[name] == before[name]
        assert torch.equal(value[still], before[name][still])  # outside the mask: the base's
        # W + diff rounds once; the difference itself was rounded once before.
        torch.testing.assert_close(value, state[name], rtol=0, atol=1e-7)
    # For A1111: a norm's two parts, and no bias without its weight.
    parts: dict[str, set[str]] = {}
    for key in load_file(file):
        parts.setdefault(key.partition(".")[0], set()).add(key.partition(".")[2])
    assert set(map(frozenset, parts.values())) == {
        frozenset(("diff",)), frozenset(("diff", "diff_b")), frozenset(("w_norm", "b_norm"))
    }  # fmt: skip
    assert parts["lora_unet_out_0"] == {"w_norm", "b_norm"}


def test_a_bias_alone(tiny_folder: Path, tmp_path: Path) -> None:
    state = edited(tiny_folder, tmp_path / "e", only="conv_in.bias")
    file = tmp_path / "x.safetensors"
    export(str(tmp_path / "e"), str(file), kind="lycoris", base=str(tiny_folder))
    found = load_file(file)
    assert set(found) == {f"lora_unet_input_blocks_0_0.{part}" for part in ("diff", "diff_b")}
    assert not found["lora_unet_input_blocks_0_0.diff"].any()
    after = included_state(file, open_base(str(tiny_folder)))
    torch.testing.assert_close(after["conv_in.bias"], state["conv_in.bias"])


def test_sums_that_round_are_counted(tiny_folder: Path, tmp_path: Path) -> None:
    """No fp32 number leads from 1 to 1e-9 by a sum."""
    from erase.formats.pipeline import save_model

    base = open_base(str(tiny_folder))
    state = {k: v.clone() for k, v in base.denoiser_state().items()}
    state["conv_in.bias"][:2] = 1.0
    save_model(base, state, tmp_path / "one")
    state["conv_in.bias"][0] = 1e-9
    state["conv_in.bias"][1] = 2.0
    save_model(base, state, tmp_path / "e")
    said = export(
        str(tmp_path / "e"), str(tmp_path / "x.safetensors"), kind="lycoris",
        base=str(tmp_path / "one"),
    )  # fmt: skip
    assert "2 moved weights, 1 of them up to rounding in 1 layer," in said


def test_mistakes(tiny_folder: Path, tmp_path: Path) -> None:
    file, base = str(tmp_path / "x.safetensors"), str(tiny_folder)
    with pytest.raises(UserError, match="--dtype has no effect on a LyCORIS file"):
        export(base, file, kind="lycoris", base=base, dtype="fp16")
    with pytest.raises(UserError, match="equals its base"):
        export(base, file, kind="lycoris", base=base)


def test_diffusers_refuses_it(tiny_folder: Path, tmp_path: Path) -> None:
    """As its help and the documentation say; a user would otherwise think that it was loaded."""
    from diffusers import DiffusionPipeline

    edited(tiny_folder, tmp_path / "erased")
    file = tmp_path / "x.safetensors"
    export(str(tmp_path / "erased"), str(file), kind="lycoris", base=str(tiny_folder))
    pipeline = DiffusionPipeline.from_pretrained(tiny_folder)
    with pytest.raises(ValueError, match=r"lora_unet_\w+\.diff"):  # naming what it can't place
        pipeline.load_lora_weights(str(tmp_path), weight_name=file.name)
