"""RECE against its objective, UCE, and what an attacker finds afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.diffusion.revival import revival
from erase.methods import uce
from erase.methods.rece import Config, edited, erase
from tests.methods.data import make_data, make_fit, moved, weights


def problem() -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    w0 = {name: torch.randn(5, 6, generator=g, dtype=torch.float64) for name in "kv"}
    c, a, kept = (torch.randn(n, 6, generator=g, dtype=torch.float64) for n in (2, 2, 3))
    return w0, c, a, kept


def test_without_rounds_it_is_uce() -> None:
    w0, c, a, kept = problem()
    found = edited(w0, c, a, kept, Config(rounds=0, erase_scale=2.0, lam=0.3))
    for name, w in found.items():
        expected = uce.solve(w0[name], c, a, kept, e=2.0, p=1.0, lam=0.3)
        torch.testing.assert_close(w, expected)


def test_a_round_is_the_minimum_of_its_objective() -> None:
    w0, c, a, kept = problem()
    first, second = (
        edited(w0, c, a, kept, Config(2.0, 0.7, 0.3, rounds=rounds)) for rounds in (0, 1)
    )
    star = c @ revival(first, w0, 0.1).T
    for name, found in second.items():
        # The weights before the round say what it aims at: the preserved stay where they are.
        w = found.clone().requires_grad_(True)
        total = 0.3 * (w - first[name]).square().sum()
        for x, y in zip(star, a, strict=True):
            total = total + 2.0 * (w @ x - first[name] @ y).square().sum()
        for x in kept:
            total = total + 0.7 * (w @ x - first[name] @ x).square().sum()
        total.backward()
        assert w.grad is not None and w.grad.abs().max() < 1e-9


def test_what_the_edit_left_open_answers_as_the_anchor() -> None:
    w0, c, a, kept = problem()
    strong = {"erase_scale": 1e6, "preserve_scale": 0.0, "lam": 1e-3}
    first = edited(w0, c, a, kept, Config(rounds=0, **strong))  # type: ignore[arg-type]
    star = c @ revival(first, w0, 0.1).T
    closed = edited(w0, c, a, kept, Config(rounds=1, **strong))  # type: ignore[arg-type]
    for name, w in closed.items():
        left = (star @ first[name].T - a @ first[name].T).norm()
        assert (star @ w.T - a @ first[name].T).norm() < 1e-3 * left


@pytest.mark.parametrize("model", ["tiny", "tiny_v"])
def test_only_keys_and_values_change(
    model: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    d: Diffusion = request.getfixturevalue(model)
    before = weights(d)
    erase(d, make_data(d), Config(), make_fit(d, "xattn-kv", tmp_path))
    assert moved(before, d) == {n for n in before if ".attn2.to_k." in n or ".attn2.to_v." in n}
