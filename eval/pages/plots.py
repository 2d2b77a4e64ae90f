"""Plots as inline SVG that takes the page's fonts and colours, light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from erase.eval.pages import phrases

WIDTH, HEIGHT = 5.0, 2.9
"""Inches; 72 SVG units each, so that 10-unit text stays legible on a phone."""
COLOURS = {
    "#010101": "ink",
    "#020202": "quiet",
    "#030303": "rule",
    "#040404": "base",
    "#050505": "erased",
    "#060606": "third",
    **{f"#0707{number:02x}": f"mark-{number}" for number in range(10)},
}
"""Stand-ins that the page's variables replace."""
INK, QUIET, RULE, BASE, ERASED, THIRD, *MARKS = COLOURS
POINTS = 240
"""Most points of a curve; longer ones are averaged in bins."""

KINDS = ("cross-attention", "self-attention", "convolutions", "other")
"""What a denoiser's layers are, in the order of their colours."""


def loss_curve(steps: Sequence[Mapping[str, Any]]) -> str:
    """Forget and retain loss by step, faint as logged and bold as a running mean.

    Args:
        steps: ``{step, loss, forget, retain}``; the parts may be None.
    """
    figure, axes = canvas()
    names = [n for n in ("forget", "retain") if steps[0][n] is not None] or ["loss"]
    x = np.array([s["step"] for s in steps], float)
    for name, colour in zip(names, (ERASED, BASE), strict=False):
        y = np.array([s[name] for s in steps], float)
        thin_x, thin_y = thin(x, y)
        axes.plot(thin_x, thin_y, color=colour, alpha=0.3, linewidth=0.8)
        smooth = running_mean(y, max(1, len(y) // 20))
        axes.plot(*thin(x, smooth), color=colour, linewidth=1.7, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    if all(s[name] >= 0 for s in steps for name in names):  # an ascent's loss is negative
        axes.set_ylim(bottom=0)
    axes.margins(x=0)
    if len(names) > 1:
        legend(axes)
    return svg(figure, "loss")


def saliency_by_layer(parameters: Sequence[Mapping[str, Any]]) -> str:
    """Share of each layer's weights in the mask, by block in the order of the forward pass.

    Args:
        parameters: ``{name, masked, size}``.
    """
    figure, axes = canvas()
    layers = by_module(parameters)
    groups = by_block(layers)
    marks: dict[tuple[str, float], list[tuple[float, float]]] = {}
    largest = max(layer["size"] for layer in layers)
    for index, members in enumerate(groups.values()):
        offsets = np.linspace(-0.34, 0.34, len(members)) if len(members) > 1 else [0.0]
        for layer, offset in zip(members, offsets, strict=True):
            # Few sizes: dots of one size share one shape in the file.
            area = 4 + 15 * round(4 * (layer["size"] / largest) ** 0.5)
            point = index + float(offset), 100 * layer["masked"] / layer["size"]
            marks.setdefault((kind_of(layer["name"]), area), []).append(point)
    kinds = [kind for kind in KINDS if any(k == kind for k, _ in marks)]
    colours = dict(zip(KINDS, (ERASED, THIRD, BASE, QUIET), strict=True))
    for (kind, area), points in marks.items():
        x, y = zip(*points, strict=True)
        axes.scatter(x, y, s=area, color=colours[kind], alpha=0.6, lw=0)
    for kind in kinds:
        axes.scatter([], [], s=26, color=colours[kind], lw=0, label=kind)
    total = 100 * sum(v["masked"] for v in layers) / sum(v["size"] for v in layers)
    axes.axhline(total, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_xticks(range(len(groups)), list(groups), rotation=40 if len(groups) > 5 else 0)
    axes.set_xlim(-0.6, len(groups) - 0.4)
    heights = [y for points in marks.values() for _, y in points]
    low, high = min(*heights, total), max(*heights, total)
    # A layer that is all in or all out touches the frame; others use the height there is.
    pad = max(2.0, 0.08 * (high - low))
    axes.set_ylim(max(-2.0, low - pad), min(102.0, high + pad))
    axes.set_ylabel("weights that may move, %")
    legend(axes, columns=2)
    return svg(figure, "saliency")


MARKERS = "osD^vPXph*<>d8"


NEAR = 2.0
"""Points within which marks stand at one place, drawn around each other."""


IRA = ("ira", "IRA, % (right: the others of its kind are kept)")
UA = ("ua", "UA, % (up: erased)")
HARMONIC = ("harmonic", "harmonic mean of UA, IRA and CRA, %")
WORST = ("recovery", "worst R, % (down: stays erased)")


def trade_off(
    rows: Sequence[Mapping[str, Any]],
    x_axis: tuple[str, str] = IRA,
    y_axis: tuple[str, str] = UA,
    name: str = "tradeoff",
) -> str:
    """One figure against another, a mark with its intervals for every recipe that has both.

    Args:
        rows: ``{recipe, figures}``, figures by key as ``{value, low, high}`` or None.
        x_axis, y_axis: key of each figure, a share, and its label.
        name: of the plot, once on a page.
    """
    figure, axes = canvas()
    keys = (x_axis[0], y_axis[0])
    shown = [r for r in rows if all(r["figures"].get(key) for key in keys)]
    placed: list[tuple[float, float]] = []
    for number, r in enumerate(shown):
        (x, left, right), (y, down, up) = (
            [100 * r["figures"][key][part] for part in ("value", "low", "high")] for key in keys
        )
        inside = sum(abs(x - a) < NEAR and abs(y - b) < NEAR for a, b in placed)
        placed.append((x, y))
        colour = MARKS[number % len(MARKS)]
        axes.plot([left, right], [y, y], [x, x], [down, up], color=colour, linewidth=0.7)
        axes.plot(
            x,
            y,
            MARKERS[number % len(MARKERS)],
            color=colour,
            markersize=5.5 + 3.5 * inside,
            markerfacecolor="none",
            markeredgewidth=1.4,
            clip_on=False,
            label=r["recipe"],
        )
    axes.set_xlabel(x_axis[1])
    axes.set_ylabel(y_axis[1])
    for low, limit in ((axes.get_xlim()[0], axes.set_xlim), (axes.get_ylim()[0], axes.set_ylim)):
        limit(max(0.0, min(low, 95.0)), 100.0)
    names = axes.legend(
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handletextpad=0.3,
    )
    # The legend's marks are of one size, whatever stands around them in the plot.
    for handle in names.legend_handles:
        cast(Line2D, handle).set_markersize(5.5)
    return svg(figure, name)


def differences(pairs: Sequence[Mapping[str, Any]], key: str, few: int) -> str:
    """Differences of the first recipe from every other, with their intervals, in points.

    Args:
        pairs: ``{second, KEY}``, with KEY as ``{value, low, high}`` or None.
        key: the figure.
        few: groups (concepts) below which no difference is called clear.
    """
    figure, axes = canvas()
    shown = [p for p in pairs if p[key]]
    figure.set_figheight(min(HEIGHT, 0.8 + 0.28 * len(shown)))
    for place, pair in enumerate(shown):
        value, low, high = (100 * pair[key][part] for part in ("value", "low", "high"))
        clear = phrases.clear(pair[key], few)
        axes.plot([low, high], [place, place], color=INK if clear else QUIET, linewidth=1.2)
        colour, style = (INK, "full") if clear else (QUIET, "none")
        axes.plot(value, place, "o", color=colour, fillstyle=style, markersize=5.5)
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(shown)), [p["second"] for p in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("points")
    return svg(figure, f"differences-{key}")


def running_mean(y: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Mean of the last ``width`` values at every point; of fewer at the start."""
    sums = np.concatenate([[0.0], np.cumsum(y)])
    ends = np.arange(1, len(y) + 1)
    starts = np.maximum(ends - width, 0)
    means: NDArray[np.float64] = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def thin(
    x: NDArray[np.float64], y: NDArray[np.float64], points: int = POINTS
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of equal bins, at most ``points`` of them."""
    bins = min(len(x), points)
    edges = np.linspace(0, len(x), bins + 1).astype(int)
    counts = np.diff(edges)
    return np.add.reduceat(x, edges[:-1]) / counts, np.add.reduceat(y, edges[:-1]) / counts


def by_module(parameters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Weights and biases of one module together, in the order of their first appearance."""
    found: dict[str, dict[str, Any]] = {}
    for parameter in parameters:
        name = parameter["name"].rpartition(".")[0] or parameter["name"]
        layer = found.setdefault(name, {"name": name, "masked": 0, "size": 0})
        layer["masked"] += parameter["masked"]
        layer["size"] += parameter["size"]
    return list(found.values())


def by_block(layers: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Layers by block of the denoiser, blocks in the order of the forward pass."""
    order = ("time", "in", "down", "mid", "up", "out")
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for layer in layers:
        groups.setdefault(block_of(layer["name"]), []).append(layer)

    def place(block: str) -> tuple[int, int]:
        head, _, number = block.partition(" ")
        return order.index(head) if head in order else len(order), int(number or 0)

    return {block: groups[block] for block in sorted(groups, key=place)}


def block_of(name: str) -> str:
    """``down 0`` for ``down_blocks.0.resnets…``; a name of another model's gives its first part."""
    numbered = re.match(r"(down|up)_blocks\.(\d+)", name)
    if numbered:
        return f"{numbered[1]} {numbered[2]}"
    head = name.split(".")[0]
    known = {"mid_block": "mid", "conv_in": "in", "conv_out": "out", "conv_norm_out": "out"}
    if head.startswith(("time_", "add_", "class_")):
        return "time"
    return known.get(head, head)


def kind_of(name: str) -> str:
    """Which of ``KINDS`` a parameter belongs to."""
    if ".attn2" in name:
        return KINDS[0]
    if ".attn1" in name:
        return KINDS[1]
    return KINDS[2] if re.search(r"(^|\.)conv\w*(\.|$)", name) else KINDS[3]


def canvas() -> tuple[Figure, Axes]:
    """An empty plot of the pages' usual size."""
    figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    dress(axes)
    return figure, axes


def dress(axes: Axes) -> None:
    """Gives axes the colours and sizes of the pages' plots."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(RULE)
    axes.tick_params(colors=QUIET, labelsize=9.5, length=3, width=0.8)
    axes.xaxis.label.set(color=QUIET, size=9.5)
    axes.yaxis.label.set(color=QUIET, size=9.5)


def legend(axes: Axes, columns: int = 2) -> None:
    """The names of what is drawn, above the plot."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        labelcolor=QUIET,
        handlelength=1.2,
        columnspacing=1.2,
        borderaxespad=0,
    )


def svg(figure: Figure, name: str) -> str:
    """The figure as an ``<svg>`` element, the same bytes every time.

    Args:
        figure: drawn in the stand-in ``COLOURS``.
        name: keeps its ids apart from another plot's on the same page.
    """
    buffer = io.StringIO()
    # Text stays text: it takes the page's font and can be searched and read aloud.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font: \1px var(--sans)", text)
    text = re.sub(r"font-family: [^;\"]+", "font-family: var(--sans)", text)
    text = re.sub(r'\bid="([A-Za-z][\w.]*?)_(\d+)"', rf'id="{name}-\1-\2"', text)
    for stand_in, variable in COLOURS.items():
        text = text.replace(stand_in, f"var(--{variable})")
    return text
