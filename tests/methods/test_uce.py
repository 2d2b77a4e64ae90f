"""UCE against its normal equations and against plain descent on its objective."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erase.diffusion.model import Diffusion
from erase.methods.uce import Config, erase, solve
from tests.methods.data import PAIRS, RETAINED, make_data, make_fit, moved, weights


def problem(seed: int) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(*s, generator=g, dtype=torch.float64) for s in ((5, 6), (3, 6), (3, 6), (4, 6))
    )


def objective(
    w: torch.Tensor, w0: torch.Tensor, c: torch.Tensor, a: torch.Tensor, kept: torch.Tensor
) -> torch.Tensor:
    """e·Σ‖W·c_i - W0·a_i‖² + p·Σ‖W·c_j - W0·c_j‖² + λ·‖W - W0‖², term by term."""
    total = 0.3 * (w - w0).square().sum()
    for x, y in zip(c, a, strict=True):
        total = total + 2.0 * (w @ x - w0 @ y).square().sum()
    for x in kept:
        total = total + 0.7 * (w @ x - w0 @ x).square().sum()
    return total


@given(st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_the_objective_is_flat_at_the_solution(seed: int) -> None:
    w0, c, a, kept = problem(seed)
    w = solve(w0, c, a, kept, e=2.0, p=0.7, lam=0.3).requires_grad_(True)
    objective(w, w0, c, a, kept).backward()
    assert w.grad is not None and w.grad.abs().max() < 1e-9


def test_nothing_changes_where_the_anchor_is_the_concept() -> None:
    w0, c, _, kept = problem(0)
    torch.testing.assert_close(solve(w0, c, c, kept, e=1.0, p=1.0, lam=0.5), w0.double())


@pytest.mark.parametrize("model", ["tiny", "tiny_v"])
def test_keys_and_values_answer_the_concept_as_the_anchor(
    model: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    d: Diffusion = request.getfixturevalue(model)
    before = weights(d)
    config = Config(erase_scale=1e6, preserve_scale=1e6, lam=1e-6)
    erase(d, make_data(d), config, make_fit(d, "xattn-kv", tmp_path))
    changed = moved(before, d)
    assert changed == {n for n in before if ".attn2.to_k." in n or ".attn2.to_v." in n}
    c, a = (d.text.last_token([p[i] for p in PAIRS]) for i in (0, 1))
    kept = d.text.last_token(RETAINED)
    for name in changed:
        w, w0 = d.denoiser.get_parameter(name), before[name]
        torch.testing.assert_close(c @ w.T, a @ w0.T, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(kept @ w.T, kept @ w0.T, rtol=1e-2, atol=1e-3)


def test_the_last_token_stands_before_the_end(tiny: Diffusion) -> None:
    hidden = tiny.embed(["a church", "one golf flag", ""]).hidden
    found = tiny.text.last_token(["a church", "one golf flag", ""])
    # start, a, church, end; start, one, golf, flag, end; start, end
    assert torch.equal(found, torch.stack([hidden[0, 2], hidden[1, 3], hidden[2, 0]]))
