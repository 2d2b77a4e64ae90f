"""Edits of one base add up: exactly where they are disjoint, by their differences elsewhere."""

from __future__ import annotations

import pytest
import torch

from erase.methods._combined import add

BASE = torch.tensor([1.0, 1.0, 1.0, 1e8, 0.0, -0.0])


def test_disjoint_edits_keep_their_very_values() -> None:
    """1e8 + (1 - 1e8) would be 0 in fp32."""
    one = {"w": torch.tensor([0.3, 1.0, 1.0, 1.0, 0.0, -0.0])}
    other = {"w": torch.tensor([1.0, 1.0, 0.7, 1e8, 1e-30, -0.0])}
    expected = torch.tensor([0.3, 1.0, 0.7, 1.0, 1e-30, -0.0])
    for edits in ([one, other], [other, one]):
        state, moved, shared = add({"w": BASE}, edits)
        assert torch.equal(state["w"].view(torch.int32), expected.view(torch.int32))
        assert (moved, shared) == (4, 0)


def test_what_several_moved_is_summed_and_counted() -> None:
    edits = [{"w": torch.tensor([v, 1.0, 1.0, 1e8, 0.0, 0.0])} for v in (3.0, 1.5, 0.0)]
    edits[1]["w"][1] = 2.0
    state, moved, shared = add({"w": BASE}, edits)
    assert state["w"][:2].tolist() == [pytest.approx(1 + 2 + 0.5 - 1), 2.0]
    assert (moved, shared) == (2, 1)


def test_a_base_in_half_precision() -> None:
    """What it upcasts to has not moved."""
    base = {"w": torch.tensor([0.1, 0.2], dtype=torch.float16)}
    edit = {"w": base["w"].float() + torch.tensor([0.0, 1e-5])}
    state, moved, shared = add(base, [edit, {"w": base["w"].float()}])
    assert torch.equal(state["w"], edit["w"]) and (moved, shared) == (1, 0)
