"""What a GPU can't do is one sentence; the GPU is made up, since none is at hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from erase.runtime.devices import accelerator, determinism_told, for_sampling, settings_kept
from erase.runtime.errors import UserError


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A GPU that emulates bf16 alone, as those before Ampere do; the precisions asked for."""
    asked: list[str] = []

    class Made:
        device = torch.device("cuda")

        def __init__(self, mixed_precision: str, **given: object) -> None:
            asked.append(mixed_precision)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    monkeypatch.setattr("accelerate.Accelerator", Made)
    before = torch.get_float32_matmul_precision()
    yield asked
    torch.set_float32_matmul_precision(before)


def test_a_gpu_that_emulates_bf16_computes_in_fp32(old_gpu: list[str]) -> None:
    accelerator("cuda", "auto", False)
    assert old_gpu == ["no"] and torch.get_float32_matmul_precision() == "highest"
    with pytest.raises(UserError, match="--precision bf16 needs a GPU that computes in bf16"):
        accelerator("cuda", "bf16", False)


def test_one_that_emulates_it_samples_from_models_trained_in_it(old_gpu: list[str]) -> None:
    for precision in ("bf16", "auto", "fp32"):
        accelerator("cuda", for_sampling(precision), False)
    assert old_gpu == ["no"] * 3


def test_another_device_than_was_asked_for_is_refused(
    old_gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.Accelerator.device", torch.device("cpu"))
    with pytest.raises(UserError, match="--device cuda was asked for, .* computes on cpu"):
        accelerator("cuda", "auto", False)


def test_each_call_computes_where_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    assert accelerator("cpu", "fp32", False).device.type == "cpu"
    monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", "meta")
    assert accelerator("auto", "fp32", False).device.type == "meta"
    monkeypatch.delenv("ACCELERATE_TORCH_DEVICE")
    assert accelerator("cpu", "fp32", False).device.type == "cpu"


def test_a_callers_own_settings_outlive_a_call() -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    theirs = Accelerator(mixed_precision="bf16", cpu=True)
    before = torch.get_float32_matmul_precision()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_float32_matmul_precision("medium")
    try:
        with settings_kept():
            accelerator("cpu", "fp32", False)
            assert AcceleratorState().mixed_precision == "no"
        assert theirs.state.mixed_precision == theirs.mixed_precision == "bf16"
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision(before)
        AcceleratorState._reset_state(reset_partial_state=True)


def test_one_that_has_it_computes_the_rest_in_tf32(
    old_gpu: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    accelerator("cuda", "fp32", False)
    assert torch.get_float32_matmul_precision() == "highest"
    accelerator("cuda", "auto", False)
    assert old_gpu == ["no", "bf16"] and torch.get_float32_matmul_precision() == "high"
    # What another run in the same process asked for is not this one's.
    accelerator("cuda", "fp32", True)
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.are_deterministic_algorithms_enabled()
    accelerator("cuda", "fp32", False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_layer_without_a_deterministic_kernel_is_told() -> None:
    with pytest.raises(UserError, match="leave out --deterministic"), determinism_told():
        raise RuntimeError("this layer does not have a deterministic implementation")
    with pytest.raises(RuntimeError, match="another"), determinism_told():
        raise RuntimeError("another")
