"""Weights beside a training against a network that is there."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from erase.diffusion.memory import Held
from erase.unlearn.ahead import Ahead, gradients


def problem() -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return net, torch.randn(5, 3), torch.randn(5, 2)


def beside(net: nn.Module, x: Tensor, y: Tensor, restart: int = 100) -> Ahead:
    params = dict(net.named_parameters())
    return Ahead(params, lambda _: [lambda: (net(x) - y).square().mean()], 0.1, restart)


def test_the_gradient_is_that_of_a_network_which_is_there() -> None:
    net, x, y = problem()
    ahead, params = beside(net, x, y), dict(net.named_parameters())
    ahead.by = {n: 0.3 * torch.randn(p.shape) for n, p in params.items()}
    before = {n: p.detach().clone() for n, p in params.items()}
    there = copy.deepcopy(net)
    with torch.no_grad():
        for name, p in there.named_parameters():
            p.add_(ahead.by[name])
    value = ahead.at(lambda: (net(x) - y).square().mean())
    assert all(torch.equal(p, before[n]) and p.grad is None for n, p in params.items())
    value.backward()
    wanted = (there(x) - y).square().mean()
    wanted.backward()
    assert float(value.detach()) == float(wanted.detach())
    for name, p in there.named_parameters():
        torch.testing.assert_close(params[name].grad, p.grad)


def test_it_goes_where_adam_goes_and_begins_again() -> None:
    """Three steps are those of a copy under torch's own Adam, and the fourth is a first one."""
    net, x, y = problem()
    ahead, before = beside(net, x, y, restart=4), copy.deepcopy(net)
    adam = torch.optim.Adam((there := copy.deepcopy(net)).parameters(), lr=0.1)
    for index in range(4):
        if index == 3:
            adam = torch.optim.Adam((there := copy.deepcopy(net)).parameters(), lr=0.1)
        ahead.update(index)
        adam.zero_grad()
        (there(x) - y).square().mean().backward()
        adam.step()
        for name, p in there.named_parameters():
            torch.testing.assert_close(ahead.by[name] + before.get_parameter(name), p)
    assert all(torch.equal(p, before.get_parameter(n)) for n, p in net.named_parameters())


def test_what_was_kept_goes_on_alike() -> None:
    net, x, y = problem()
    ahead, again = beside(net, x, y), beside(net, x, y)
    for index in range(2):
        ahead.update(index)
    again.load_state_dict(copy.deepcopy(ahead.state_dict()))
    ahead.update(2)
    again.update(2)
    assert all(torch.equal(own, again.by[name]) for name, own in ahead.by.items())


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
    net, x, y = problem()
    early = net(x).square().mean()
    beside(net, x, y).at(lambda: net(x).mean())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        early.backward()


def test_it_holds_five_copies_of_the_weights() -> None:
    """δ, Adam's two moments, the weights' values and a gradient, as the estimate counts them."""
    net = nn.Sequential(*(nn.Linear(256, 256, bias=False) for _ in range(3)))
    x, size = torch.randn(1, 256), 3 * 256 * 256 * 4
    with Held(net) as held:
        params = dict(net.named_parameters())
        ahead = Ahead(params, lambda _: [lambda: net(x).square().mean()], 1e-3, 100)
        ahead.update(0)
        ahead.update(1)
    assert held.most / size == pytest.approx(5.0, abs=0.1)
