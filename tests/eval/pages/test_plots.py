from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from erase.eval.pages.plots import (
    COLOURS,
    block_of,
    by_block,
    by_module,
    kind_of,
    loss_curve,
    running_mean,
    saliency_by_layer,
    thin,
    trade_off,
)

STEPS = [{"step": i + 1, "loss": 3.0, "forget": 2.0 / (i + 1), "retain": 1.0} for i in range(900)]


def test_running_mean_and_bins() -> None:
    y = np.array([1.0, 3.0, 5.0, 7.0])
    np.testing.assert_allclose(running_mean(y, 2), [1, 2, 4, 6])
    np.testing.assert_allclose(running_mean(y, 10), [1, 2, 3, 4])
    x, means = thin(np.arange(10.0), np.arange(10.0) ** 2, 5)
    np.testing.assert_allclose(x, [0.5, 2.5, 4.5, 6.5, 8.5])
    np.testing.assert_allclose(means, [0.5, 6.5, 20.5, 42.5, 72.5])
    np.testing.assert_allclose(thin(y, y, 9)[1], y)


@pytest.mark.parametrize("loss", [[-0.3, -0.2, -0.25], [-0.3, 0.1, -0.2], [0.1, 0.3, 0.2]])
def test_a_loss_curve_shows_every_loss(loss: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradient ascent's loss is negative."""
    seen: list[Figure] = []
    monkeypatch.setattr("erase.eval.pages.plots.svg", lambda figure, name: str(seen.append(figure)))
    rows = [{"step": i, "loss": v, "forget": None, "retain": None} for i, v in enumerate(loss)]
    loss_curve(rows)
    low, high = seen[0].axes[0].get_ylim()
    assert low <= min(loss) < max(loss) <= high and low <= 0
    assert (low == 0) == (min(loss) >= 0)


def test_recipes_at_one_place_are_told_apart_and_no_axis_passes_100(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten recipes, eight of them at 100 and 100: as many marks, each larger than the last."""
    seen: list[Figure] = []
    monkeypatch.setattr("erase.eval.pages.plots.svg", lambda figure, name: str(seen.append(figure)))
    whole, part = ({"value": v, "low": v - 0.1, "high": v} for v in (1.0, 0.6))
    both = [(whole, whole)] * 8 + [(part, whole), (whole, part)]
    rows = [{"recipe": f"r{i}", "figures": {"ua": u, "ira": v}} for i, (u, v) in enumerate(both)]
    trade_off(rows)
    axes = seen[0].axes[0]
    assert axes.get_xlim()[1] == axes.get_ylim()[1] == 100
    marks = [line for line in axes.lines if line.get_marker() not in ("None", "", None)]
    assert len({(m.get_marker(), m.get_color()) for m in marks}) == 10
    sizes = [m.get_markersize() for m in marks[:8]]
    assert sizes == sorted(set(sizes)) and marks[8].get_markersize() == sizes[0]


def layers() -> list[dict[str, object]]:
    from erase.mini.networks import build_unet

    return [
        {"name": n, "masked": p.numel() // 3, "size": p.numel()}
        for n, p in build_unet().named_parameters()
    ]


def test_blocks_follow_the_forward_pass() -> None:
    blocks = by_block(layers())
    assert list(blocks) == [
        *("time", "in", "down 0", "down 1", "down 2", "mid"),
        *("up 0", "up 1", "up 2", "out"),
    ]
    assert sum(len(members) for members in blocks.values()) == len(layers())
    assert block_of("transformer.layers.0.weight") == "transformer"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.weight", "cross-attention"),
        ("mid_block.attentions.0.transformer_blocks.0.attn1.to_out.0.bias", "self-attention"),
        ("up_blocks.0.resnets.0.conv_shortcut.weight", "convolutions"),
        ("down_blocks.0.downsamplers.0.conv.weight", "convolutions"),
        ("conv_in", "convolutions"),
        ("time_embedding.linear_1.weight", "other"),
        ("mid_block.attentions.0.transformer_blocks.0.ff.net.2.weight", "other"),
    ],
)
def test_kinds_of_layers(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_weights_and_biases_are_one_layer() -> None:
    rows = [
        {"name": "a.weight", "masked": 3, "size": 8},
        {"name": "b.weight", "masked": 1, "size": 1},
        {"name": "a.bias", "masked": 0, "size": 2},
    ]
    assert by_module(rows) == [
        {"name": "a", "masked": 3, "size": 10},
        {"name": "b", "masked": 1, "size": 1},
    ]


@pytest.mark.parametrize("name", ["loss", "saliency"])
def test_svg_takes_the_pages_colours_and_fonts(name: str) -> None:
    def draw() -> str:
        return loss_curve(STEPS) if name == "loss" else saliency_by_layer(layers())

    text = draw()
    root = ElementTree.fromstring(text)
    assert root.get("width") is None
    assert root.get("viewBox")
    for stand_in, variable in COLOURS.items():
        assert stand_in not in text
        own = variable in ("ink", "quiet", "rule", "base", "erased")
        assert f"var(--{variable})" in text or not own or name == "loss"
    assert set(re.findall(r"font-family: [^;\"]+", text)) == {"font-family: var(--sans)"}
    assert "DejaVu" not in text
    assert draw() == text
    assert len(text) < 60_000


def test_a_method_with_one_loss_has_one_curve() -> None:
    rows = [{"step": i, "loss": 1.0 / (i + 1), "forget": None, "retain": None} for i in range(5)]
    assert "var(--erased)" in loss_curve(rows)
    assert "var(--base)" not in loss_curve(rows)
