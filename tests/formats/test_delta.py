"""Delta files give back the erased model's bits, and only on its own base."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from erase.formats.delta import METADATA, apply_delta, is_delta, save_delta
from erase.runtime.errors import UserError


def model(seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = {"a.weight": (3, 5), "a.bias": (3,), "b.weight": (2, 2, 3, 3)}
    return {n: torch.randn(s, generator=g).to(dtype) for n, s in shapes.items()}


def moved(base: dict[str, Tensor]) -> dict[str, Tensor]:
    new = {n: v.float().clone() for n, v in base.items()}
    new["a.weight"][0, 1] += 1e-5
    new["a.weight"][2, 4] = -0.25
    return new


def bits(state: dict[str, Tensor]) -> dict[str, list[int]]:
    return {n: v.float().reshape(-1).view(torch.int32).tolist() for n, v in state.items()}


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), share=st.floats(0.01, 1), half=st.booleans())
def test_any_change_comes_back_bit_by_bit(
    seed: int, share: float, half: bool, tmp_path: Path
) -> None:
    base = model(seed, torch.float16 if half else torch.float32)
    g = torch.Generator().manual_seed(seed)
    new = {
        n: torch.where(torch.rand(v.shape, generator=g) < share, v.float() * 1.01 + 1e-6, v.float())
        for n, v in base.items()
    }
    if bits(new) == bits(base):
        return
    save_delta(tmp_path / "d.safetensors", base, new)
    result = apply_delta(tmp_path / "d.safetensors", base)
    assert bits(result) == bits(new)
    for name, value in result.items():
        changed = bits({name: value}) != bits({name: base[name]})
        assert value.dtype == (torch.float32 if changed else base[name].dtype)


def test_the_file_holds_the_packed_mask_and_new_values(tmp_path: Path) -> None:
    base = model(dtype=torch.float16)
    new = moved(base)
    assert save_delta(tmp_path / "d.safetensors", base, new) == 2
    tensors = load_file(tmp_path / "d.safetensors")
    assert set(tensors) == {"a.weight:mask", "a.weight:values"}
    expected = np.zeros(15, bool)
    expected[[1, 14]] = True
    packed = tensors["a.weight:mask"]
    assert packed.dtype == torch.uint8
    assert packed.tolist() == np.packbits(expected, bitorder="little").tolist() == [2, 64]
    assert tensors["a.weight:values"].dtype == torch.float32
    assert tensors["a.weight:values"].tolist() == [float(new["a.weight"][0, 1]), -0.25]


def test_signs_of_zero_survive(tmp_path: Path) -> None:
    base = {"w": torch.tensor([0.0, 0.0, 1.0])}
    new = {"w": torch.tensor([-0.0, 0.0, 2.0])}
    save_delta(tmp_path / "d.safetensors", base, new)
    assert bits(apply_delta(tmp_path / "d.safetensors", base)) == bits(new)


def test_base_stays_untouched(tmp_path: Path) -> None:
    base = model()
    before = bits(base)
    save_delta(tmp_path / "d.safetensors", base, moved(base))
    apply_delta(tmp_path / "d.safetensors", base)
    assert bits(base) == before


def test_an_upcast_base_is_the_same_base_and_another_is_refused(tmp_path: Path) -> None:
    base = model(dtype=torch.float16)
    new = moved(base)
    save_delta(tmp_path / "d.safetensors", base, new)
    upcast = {n: v.float() for n, v in base.items()}
    assert bits(apply_delta(tmp_path / "d.safetensors", upcast)) == bits(new)
    for other in (model(1), model(0), new, {"a.weight": base["a.weight"]}):
        with pytest.raises(UserError, match="a different base model"):
            apply_delta(tmp_path / "d.safetensors", other)


def test_architectures_must_agree_and_something_must_have_moved(tmp_path: Path) -> None:
    base = model()
    with pytest.raises(UserError, match="the same architecture"):
        save_delta(tmp_path / "d.safetensors", base, {"a.weight": base["a.weight"]})
    with pytest.raises(UserError, match="equals its base"):
        save_delta(tmp_path / "d.safetensors", base, model())
    assert not list(tmp_path.iterdir())


def test_damage_and_foreign_files_are_noticed(tmp_path: Path) -> None:
    base, file = model(), tmp_path / "d.safetensors"
    save_delta(file, base, moved(base))
    assert is_delta(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert set(json.loads(metadata[METADATA])) == {"base", "result", "weights"}
    tensors = load_file(file)
    tensors["a.weight:values"] *= 2
    save_file(tensors, tmp_path / "changed.safetensors", metadata)
    with pytest.raises(UserError, match="is damaged"):
        apply_delta(tmp_path / "changed.safetensors", base)
    save_file({"a.weight:mask": tensors["a.weight:mask"]}, tmp_path / "cut.safetensors", metadata)
    with pytest.raises(UserError, match="is damaged"):
        apply_delta(tmp_path / "cut.safetensors", base)
    save_file(tensors, tmp_path / "plain.safetensors")
    (tmp_path / "text.safetensors").write_text("x")
    for name in ("plain", "text", "missing"):
        other = tmp_path / f"{name}.safetensors"
        assert not is_delta(other)
        with pytest.raises(UserError, match="not a delta file"):
            apply_delta(other, base)
