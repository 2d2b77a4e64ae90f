"""The selection against a stable sort, in every regime: sampled, halved, tied, cut into blocks."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from erase.runtime.errors import UserError
from erase.unlearn import topk


def by_sorting(values: NDArray[np.float32], k: int) -> NDArray[np.bool_]:
    """The k largest magnitudes; a stable sort keeps the earlier of equals first."""
    chosen = np.zeros(values.size, bool)
    chosen[np.argsort(-np.abs(values.ravel()), kind="stable")[:k]] = True
    return chosen


def select(values: NDArray[np.float32] | torch.Tensor, k: int) -> NDArray[np.bool_]:
    size = math.prod(values.shape)
    out = np.full(-(-size // 8), 255, np.uint8)
    topk.select(list(topk.magnitude_blocks("w", values, out)), k)
    bits = np.unpackbits(out, bitorder="little").astype(bool)
    assert not bits[size:].any()
    return bits[:size]


EXTREMES = [float(np.float32(x)) for x in (0.0, -0.0, 1.0, -1.0, 1e-45, 3e38)]
floats = st.floats(-4, 4, width=32) | st.sampled_from(EXTREMES)


@given(
    values=hnp.arrays(np.float32, st.integers(1, 300), elements=floats),
    share=st.floats(0, 1),
    block=st.sampled_from([8, 64, 1 << 19]),
    sample=st.sampled_from([2, 16, 1 << 20]),
)
def test_equals_a_stable_sort(
    values: NDArray[np.float32], share: float, block: int, sample: int
) -> None:
    k = math.floor(share * values.size)
    with patch.object(topk, "BLOCK", block), patch.object(topk, "_SAMPLE", sample):
        np.testing.assert_array_equal(select(values, k), by_sorting(values, k))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("kind", ["normal", "zeros", "mostly zeros", "bf16", "sorted", "two"])
def test_equals_a_stable_sort_on_many_values(kind: str, share: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(200_003, dtype=np.float32) * 1e-6
    match kind:
        case "zeros":
            values[:] = 0
        case "mostly zeros":
            values[rng.random(values.size) < 0.7] = 0
        case "bf16":
            values = torch.from_numpy(values).bfloat16().float().numpy()
        case "sorted":
            values = np.sort(values)
        case "two":
            values = np.where(values > 0, np.float32(1), np.float32(2))
    k = math.floor(share * values.size)
    with patch.object(topk, "BLOCK", 1 << 12), patch.object(topk, "_SAMPLE", 1 << 10):
        np.testing.assert_array_equal(select(values, k), by_sorting(values, k))


def test_every_k() -> None:
    values = np.random.default_rng(0).permutation(400).astype(np.float32) // 1.5
    with patch.object(topk, "BLOCK", 64), patch.object(topk, "_SAMPLE", 8):
        for k in range(401):
            np.testing.assert_array_equal(select(values, k), by_sorting(values, k))


def test_a_misleading_sample_costs_time_not_exactness() -> None:
    values = np.arange(1, 100_001, dtype=np.float32)
    # The first step from 1000 on that shares no factor with 2, 3, 5 and 7 is 1003.
    values[::1003] = 1e30
    out = np.empty(12_500, np.uint8)
    with patch.object(topk, "_SAMPLE", 100):
        blocks = list(topk.magnitude_blocks("w", values, out))
        bracket = topk._guess(blocks, 0.5, values.size, np.empty(topk.BLOCK, np.int32))
        assert np.int32(bracket[0]).view(np.float32) == np.float32(1e30)
        np.testing.assert_array_equal(select(values, 50_000), by_sorting(values, 50_000))


def test_any_layout_of_a_torch_tensor() -> None:
    torch.manual_seed(0)
    values = torch.randn(6, 5, 4).permute(2, 0, 1)
    np.testing.assert_array_equal(select(values, 40), by_sorting(values.numpy(), 40))


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    values = np.ones(1000, np.float32)
    values[777] = bad
    with pytest.raises(UserError, match="'w' is not finite"):
        select(values, 3)


def test_more_than_all_is_refused() -> None:
    with pytest.raises(ValueError, match="can't choose 3 of 2"):
        select(np.ones(2, np.float32), 3)


def test_random_keys_are_even_and_depend_on_the_seed_alone() -> None:
    n = 40_001

    def draw(k: int, *seed: int) -> NDArray[np.bool_]:
        out = np.empty(-(-n // 8), np.uint8)
        with patch.object(topk, "BLOCK", 1 << 12):
            topk.select(list(topk.random_blocks("w", n, out, seed)), k)
        return np.unpackbits(out, count=n, bitorder="little").astype(bool)

    first = draw(10_000, 7, 0)
    np.testing.assert_array_equal(first, draw(10_000, 7, 0))
    assert first.sum() == 10_000
    assert (draw(10_000, 7, 1) != first).any()
    # Of each tenth a quarter is taken; the standard deviation of its count is 27.
    for part in np.array_split(first, 10):
        assert abs(part.sum() - 1000) < 5 * 27
    # Two independent draws share a quarter of their weights: 2500, standard deviation 38.
    assert abs((first & draw(10_000, 8, 0)).sum() - 2500) < 5 * 38
