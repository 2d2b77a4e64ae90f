"""Bytes that a pass holds, on layers small enough to count by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from erase.diffusion.memory import denoiser_bytes, most_held, to_low_memory
from erase.diffusion.model import Diffusion
from erase.diffusion.scopes import scoped


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(*shape, device="meta")


def test_what_is_alive_at_the_same_time_is_counted_once() -> None:
    layers = nn.Sequential(nn.Linear(10, 100), nn.ReLU(), nn.Linear(100, 5)).to("meta")
    with torch.no_grad():
        held = most_held(layers, lambda: layers(empty(2, 10)))
    # 2 × 10 come in; the hidden 2 × 100 and their rectified copy are there at once; weights and
    # the views that are taken of them do not count.
    assert held == 4 * (20 + 200 + 200)


def test_the_way_back_holds_gradients_too() -> None:
    layer = nn.Linear(1000, 1000, bias=False).to("meta")
    held = most_held(layer, lambda: layer(empty(1, 1000)).sum().backward())
    assert 4 * 1_000_000 <= held < 4 * 1_010_000


def test_attention_does_not_hold_a_matrix_of_all_positions() -> None:
    layer = nn.Identity().to("meta")
    q = empty(1, 1, 1000, 8)

    def attend() -> None:
        nn.functional.scaled_dot_product_attention(q, q, q)

    with torch.no_grad():
        assert most_held(layer, attend) < 4 * 1000 * 1000 / 10


def test_recomputed_activations_hold_less_and_attention_stays_whole(tiny: Diffusion) -> None:
    denoiser = on_meta(tiny)
    whole = denoiser_bytes(tiny.family, denoiser, 4, 8, "full")
    to_low_memory(denoiser)
    assert denoiser_bytes(tiny.family, denoiser, 4, 8, "full") < whole


def test_only_weights_in_scope_have_a_gradient(tiny: Diffusion) -> None:
    denoiser = on_meta(tiny)
    few, every = (denoiser_bytes(tiny.family, denoiser, 1, 8, s) for s in ("xattn-kv", "full"))
    left_out = sum(p.numel() for p in denoiser.parameters()) - sum(
        p.numel() for p in scoped(denoiser, "xattn-kv").values()
    )
    assert every - few > 4 * 0.5 * left_out


def on_meta(tiny: Diffusion) -> Any:
    with torch.device("meta"):
        return type(tiny.denoiser).from_config(tiny.denoiser.config)
