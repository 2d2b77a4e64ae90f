"""Gradients elsewhere against a network that is there."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from erase.unlearn.ahead import elsewhere, gradients


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return net, torch.randn(5, 3), torch.randn(5, 2)


def test_the_gradient_is_that_of_a_network_which_is_there() -> None:
    net, x, y = problem()
    params = dict(net.named_parameters())
    before = {n: p.detach().clone() for n, p in params.items()}
    by = {n: 0.3 * torch.randn(p.shape) for n, p in params.items()}
    there = copy.deepcopy(net)
    with torch.no_grad():
        for name, p in there.named_parameters():
            p.add_(by[name])
    value = elsewhere(params, by, lambda: (net(x) - y).square().mean())
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in params.items())
    value.backward()
    wanted = (there(x) - y).square().mean()
    wanted.backward()
    assert float(value.detach()) == float(wanted.detach())
    for name, p in there.named_parameters():
        torch.testing.assert_close(params[name].grad, p.grad)


def test_gradients_add_up_and_leave_nothing() -> None:
    net, x, y = problem()
    params = dict(net.named_parameters())
    parts = gradients(
        params,
        [lambda i=i: (net(x[i]) - y[i]).square().mean() / 5 for i in range(5)],  # type: ignore[misc]
    )
    assert all(p.grad is None for p in params.values())
    whole = torch.autograd.grad((net(x) - y).square().mean(), list(params.values()))
    for found, wanted in zip(parts.values(), whole, strict=True):
        torch.testing.assert_close(found, wanted)


def test_what_was_read_before_the_weights_moved_is_refused() -> None:
    net, x, _ = problem()
    params = dict(net.named_parameters())
    early = net(x).square().mean()
    elsewhere(params, {n: torch.zeros_like(p) for n, p in params.items()}, lambda: net(x).mean())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        early.backward()
