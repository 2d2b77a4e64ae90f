"""What a GPU can't do is one sentence; the GPU is made up, since none is at hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from erase.runtime.devices import accelerator, determinism_told
from erase.runtime.errors import UserError


@pytest.fixture
def old_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A GPU that emulates bf16 alone, as those before Ampere do; the precisions asked for."""
    asked: list[str] = []

    class Made:
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
