"""Plots of classifiers beside retrained ones; see ``erase.eval.pages.plots``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from erase.eval.classifiers.confidence import HIGH, LOW, WIDTH
from erase.eval.pages.plots import (
    BASE,
    ERASED,
    INK,
    QUIET,
    THIRD,
    canvas,
    dress,
    legend,
    svg,
)
from erase.eval.pages.plots import (
    WIDTH as INCHES,
)

SIDES = {
    "base": ("untouched", BASE),
    "unlearned": ("unlearned", ERASED),
    "retrain": ("Retrain", THIRD),
}
"""Each side's name and colour."""
Value = Mapping[str, Any]
"""``{value, low, high}`` with fractions, any of them None."""
MARKS = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999, 0.99999)
"""Confidences that are written at the axis."""
FEW = (0.01, 0.5, 0.99999)
"""Those at a narrow axis."""


def bars(
    labels: Sequence[str],
    series: Mapping[str, Sequence[Value]],
    floors: Sequence[Value] = (),
    *,
    name: str,
    unit: str,
) -> str:
    """Bars of sizes with their intervals, one of each side for every label.

    Args:
        labels: from above to below.
        series: by a side of ``SIDES``; signed values are drawn by their size.
        floors: of each label, drawn as a mark; empty for none.
        name: of the plot, once on a page.
        unit: below the axis.
    """
    figure, axes = canvas()
    height = 0.8 / len(series)
    figure.set_figheight(0.75 + len(labels) * (0.16 + 0.16 * len(series)))
    for number, (side, values) in enumerate(series.items()):
        title, colour = SIDES[side]
        places = np.arange(len(labels)) - 0.4 + height * (number + 0.5)
        sizes = [100 * abs(value["value"] or 0.0) for value in values]
        axes.barh(places, sizes, 0.86 * height, color=colour, label=title)
        for place, value in zip(places, values, strict=True):
            if value["low"] is not None:
                ends = [100 * end for end in folded(value["low"], value["high"])]
                axes.plot(ends, [place, place], color=INK, linewidth=0.9)
    for place, value in enumerate(floors):
        if value["value"] is not None:
            x = 100 * value["value"]
            label = "floor" if place == 0 else None
            axes.plot([x, x], [place - 0.45, place + 0.45], color=INK, lw=2.2, label=label)
    axes.set_yticks(range(len(labels)), list(labels))
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel(unit)
    legend(axes, columns=len(series) + 1)
    return svg(figure, name)


def folded(low: float, high: float) -> tuple[float, float]:
    """An interval of a signed value as one of its size."""
    if low <= 0 <= high:
        return 0.0, max(-low, high)
    return min(abs(low), abs(high)), max(abs(low), abs(high))


def confidence(
    found: Mapping[str, Mapping[str, Any]], parts: Mapping[str, str], name: str = "confidence"
) -> str:
    """How sure the models are of the true label, a panel for each part.

    Args:
        found: by side and part, ``{n, counts}``, see ``confidence.Confidence``.
        parts: title of each part that is drawn.
        name: of the plot, once on a page.
    """
    shown = [part for part in parts if any(part in own for own in found.values())]
    figure = Figure(figsize=(INCHES, 0.7 + 1.35 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    for part, axes in zip(shown, panels, strict=True):
        dress(axes)
        _panel(axes, {side: own[part] for side, own in found.items() if part in own})
        axes.set_title(parts[part], loc="left", color=QUIET, size=9.5, pad=4)
        axes.set_ylabel("%")
    last = panels[-1]
    places = [math.log(p / (1 - p)) for p in MARKS]
    last.set_xticks(places, [f"{100 * p:g}" for p in MARKS])
    last.set_xlabel("probability of the true label, % (on a logit scale)")
    handles, titles = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        titles,
        loc="outside upper left",
        ncols=3,
        frameon=False,
        fontsize=9.5,
        labelcolor=QUIET,
        handlelength=1.2,
        columnspacing=1.2,
    )
    return svg(figure, name)


def _panel(axes: Axes, sides: Mapping[str, Mapping[str, Any]]) -> None:
    edges = np.arange(LOW, HIGH + WIDTH / 2, WIDTH)
    for side, own in sides.items():
        title, colour = SIDES[side]
        heights = 100 * np.array(own["counts"]) / own["n"]
        axes.stairs(heights, edges, color=colour, fill=True, alpha=0.16, lw=0)
        axes.stairs(heights, edges, color=colour, linewidth=1.5, label=title)
    axes.set_xlim(LOW, HIGH)
    axes.set_ylim(bottom=0)


def spreads(
    found: Mapping[str, Mapping[str, Mapping[str, Any]]],
    retrain: Mapping[str, Mapping[str, Any]],
    parts: Mapping[str, str],
    name: str,
) -> str:
    """How sure the models of many recipes are of the true label, each under Retrain's outline.

    The bins at both ends hold all that lies beyond them. They are cut off, so that the rest shows.

    Args:
        found: by recipe, from above to below, and part; see ``confidence``.
        retrain: of the retrained models, by part.
        parts: title of each part that is drawn, from left to right.
        name: of the plot, once on a page.
    """
    shown = [part for part in parts if part in retrain]
    figure = Figure(figsize=(INCHES, 0.75 + 0.5 * len(found)), layout="constrained")
    grid = figure.subplots(len(found), len(shown), sharex=True, sharey="col", squeeze=False)
    edges = np.arange(LOW, HIGH + WIDTH / 2, WIDTH)
    for row, (recipe, own) in zip(grid, found.items(), strict=True):
        for part, axes in zip(shown, row, strict=True):
            dress(axes)
            colour = BASE if recipe == "untouched" else ERASED
            heights = 100 * np.array(own[part]["counts"]) / own[part]["n"]
            axes.stairs(heights, edges, color=colour, fill=True, alpha=0.55, lw=0)
            right = 100 * np.array(retrain[part]["counts"]) / retrain[part]["n"]
            axes.stairs(right, edges, color=THIRD, linewidth=1.2)
            axes.set_xlim(LOW, HIGH)
            axes.set_yticks([])
        row[0].set_ylabel(recipe, rotation=0, ha="right", va="center", size=8.5, color=INK)
    for part, axes in zip(shown, grid[0], strict=True):
        axes.set_title(parts[part], color=QUIET, size=9.5, pad=4)
        inner = [
            100 * max(own["counts"][1:-1]) / own["n"]
            for own in (retrain[part], *(each[part] for each in found.values()))
        ]
        axes.set_ylim(0, 1.1 * max(inner) or 100)
    for axes in grid[-1]:
        axes.set_xticks([math.log(p / (1 - p)) for p in FEW], [f"{100 * p:g}" for p in FEW])
    figure.supxlabel("probability of the true label, % (logit scale)", size=9.5, color=QUIET)
    return svg(figure, name)


def curve(points: Mapping[str, Mapping[str, Value]], name: str = "relearning") -> str:
    """Accuracies by number of steps, each side with the band of its intervals.

    Args:
        points: by number of steps and side.
        name: of the plot, once on a page.
    """
    figure, axes = canvas()
    steps = list(points)
    for side, (title, colour) in SIDES.items():
        own = [(x, points[s][side]) for x, s in enumerate(steps) if side in points[s]]
        known = [(x, value) for x, value in own if value["value"] is not None]
        if not known:
            continue
        axes.plot(
            [x for x, _ in known],
            [100 * v["value"] for _, v in known],
            "o-",
            color=colour,
            linewidth=1.6,
            markersize=3.5,
            label=title,
        )
        wide = [(x, v) for x, v in known if v["low"] is not None]
        axes.fill_between(
            [x for x, _ in wide],
            [100 * v["low"] for _, v in wide],
            [100 * v["high"] for _, v in wide],
            color=colour,
            alpha=0.15,
            lw=0,
        )
    axes.set_xticks(range(len(steps)), steps)
    axes.set_xlabel("steps on retained samples alone")
    axes.set_ylabel("right, %")
    axes.set_ylim(-2, 102)
    legend(axes, columns=3)
    return svg(figure, name)
