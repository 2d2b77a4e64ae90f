"""Accumulated gradients against autograd on the whole set, and a case worked out by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from erase.runtime.errors import UserError
from erase.unlearn.saliency import accumulate


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5)
    )


def batches(model: nn.Module) -> tuple[list[Callable[[], Tensor]], Callable[[], Tensor]]:
    """Losses of four batches, and their sum as one loss over the whole set."""
    g = torch.Generator().manual_seed(1)
    x, y = torch.randn(12, 3, 8, 8, generator=g), torch.randint(5, (12,), generator=g)

    def loss(rows: slice) -> Tensor:
        return cross_entropy(model(x[rows]), y[rows], reduction="sum")

    parts = [slice(i, i + 3) for i in range(0, 12, 3)]
    return [lambda p=p: loss(p) for p in parts], lambda: loss(slice(None))  # type: ignore[misc]


def test_equals_the_full_batch_gradient() -> None:
    model = classifier()
    params = dict(model.named_parameters())
    losses, whole = batches(model)
    expected = torch.autograd.grad(whole(), list(params.values()))
    found = accumulate(params, losses)
    assert list(found) == list(params)
    for g, (name, s) in zip(expected, found.items(), strict=True):
        torch.testing.assert_close(s, g.abs(), rtol=1e-4, atol=1e-5, msg=name)


def test_absolute_equals_the_sum_of_each_batch_alone() -> None:
    model = classifier()
    params = dict(model.named_parameters())
    losses, _ = batches(model)
    found = accumulate(params, losses, absolute=True)
    for name, p in params.items():
        each = [torch.autograd.grad(loss(), p)[0].abs() for loss in losses]
        torch.testing.assert_close(found[name], sum(each), rtol=1e-5, atol=1e-6)


def test_gradients_that_cancel() -> None:
    # L_1 = 3·w, L_2 = -w: Σg = 2, Σ|g| = 4.
    w = nn.Parameter(torch.tensor([5.0]))
    losses = [lambda: 3 * w.sum(), lambda: -w.sum()]
    assert accumulate({"w": w}, losses)["w"].tolist() == [2.0]
    assert accumulate({"w": w}, losses, absolute=True)["w"].tolist() == [4.0]


def test_a_weight_used_twice_in_one_loss_counts_with_its_sum() -> None:
    # L = w·3 + w·(-1) in one graph: the magnitude is of the whole gradient, 2.
    w = nn.Parameter(torch.tensor([5.0]))
    assert accumulate({"w": w}, [lambda: (3 * w - w).sum()], absolute=True)["w"].tolist() == [2.0]


def test_half_precision_gradients_are_summed_in_fp32() -> None:
    w = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    # 256 + 1 is no bfloat16.
    found = accumulate({"w": w}, [lambda: 256 * w.sum(), lambda: w.sum()])["w"]
    assert found.dtype == torch.float32 and found.tolist() == [257.0]


def test_puts_everything_back() -> None:
    model = classifier()
    model.requires_grad_(False)
    params = {"4.weight": model.get_parameter("4.weight"), "0.bias": model.get_parameter("0.bias")}
    other = model.get_parameter("4.bias").requires_grad_(True)
    before = torch.full_like(params["0.bias"], 7.0)
    params["0.bias"].grad = before
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    losses, _ = batches(model)
    with torch.no_grad():
        accumulate(params, losses)
    assert params["0.bias"].grad is before and (before == 7).all()
    assert not params["0.bias"].requires_grad and params["4.weight"].grad is None
    assert other.requires_grad and other.grad is None
    for name, p in model.named_parameters():
        assert torch.equal(p, weights[name])
    params["0.bias"].requires_grad_(True)
    params["0.bias"].grad = None
    torch.autograd.backward(losses[0]())  # no hook is left behind
    assert params["0.bias"].grad is not None


def test_puts_everything_back_after_an_error() -> None:
    w = nn.Parameter(torch.ones(1), requires_grad=False)

    def fails() -> Tensor:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        accumulate({"w": w}, [lambda: w.sum(), fails])
    assert not w.requires_grad and w.grad is None


def test_a_weight_that_no_loss_depends_on_gets_zeros() -> None:
    w, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    assert accumulate({"w": w, "u": unused}, [lambda: w.sum()])["u"].tolist() == [0, 0, 0]


def test_an_empty_forget_set_is_refused() -> None:
    with pytest.raises(UserError, match="forget set is empty"):
        accumulate({"w": nn.Parameter(torch.ones(1))}, [])
