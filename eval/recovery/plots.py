"""Plots of attacks beside their bounds; see ``erase.eval.pages.plots``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erase.eval.pages.plots import BASE, ERASED, INK, QUIET, THIRD, canvas, legend, svg

COLOURS = {"erased": ERASED, "random": QUIET, "ceiling": BASE, "floor": THIRD}
TITLES = {"erased": "this model", "random": "random search", "ceiling": "base", "floor": "floor"}
MARKERS = {"erased": "o", "random": "x", "ceiling": "s", "floor": "d"}


def bars(attacks: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """A line for each attack from its floor to its ceiling, and the model in between.

    Args:
        attacks: by name, as in ``attack.json``.
        name: of the plot, once on a page.
    """
    figure, axes = canvas()
    figure.set_figheight(0.9 + 0.34 * len(attacks))
    for place, one in enumerate(attacks.values()):
        floor, ceiling = one["floor"]["value"], one["ceiling"]["value"]
        if floor is not None and ceiling is not None:
            axes.plot([100 * floor, 100 * ceiling], [place, place], color=QUIET, lw=1, alpha=0.5)
        low, high = one["erased"]["low"], one["erased"]["high"]
        if low is not None:
            axes.plot([100 * low, 100 * high], [place, place], color=INK, lw=1.6)
        for side, marker in MARKERS.items():
            if one[side]["value"] is not None:
                axes.plot(
                    [100 * one[side]["value"]],
                    [place],
                    marker,
                    color=COLOURS[side],
                    markersize=6.5,
                    label=TITLES[side] if place == 0 else None,
                )
    axes.set_yticks(range(len(attacks)), list(attacks))
    axes.set_ylim(len(attacks) - 0.5, -0.5)
    axes.set_xlim(-3, 103)
    axes.set_xlabel("images that show the concept, %")
    legend(axes, columns=4)
    return svg(figure, name)


def curve(
    sides: Mapping[str, Mapping[Any, Mapping[str, Any]]], after: int | None, name: str
) -> str:
    """Shares by number of steps, each side with the band of its intervals.

    Args:
        sides: by side and steps.
        after: steps at which the figure is read; None for none.
        name: of the plot, once on a page.
    """
    figure, axes = canvas()
    steps = sorted({int(step) for points in sides.values() for step in points})
    place = {step: x for x, step in enumerate(steps)}
    for side, points in sides.items():
        known = sorted((int(step), value) for step, value in points.items())
        x = [place[step] for step, _ in known]
        y = [100 * value["value"] for _, value in known]
        ends = [[100 * value[end] for _, value in known] for end in ("low", "high")]
        axes.plot(x, y, "-" + MARKERS[side], color=COLOURS[side], lw=1.6, ms=4, label=TITLES[side])
        axes.fill_between(x, ends[0], ends[1], color=COLOURS[side], alpha=0.12, lw=0)
    if after is not None:
        axes.axvline(place[after], color=INK, lw=0.8, ls=":")
    axes.set_xticks(range(len(steps)), [str(step) for step in steps])
    axes.set_xlabel("steps")
    axes.set_ylabel("images that show it, %")
    axes.set_ylim(-3, 103)
    legend(axes, columns=4)
    return svg(figure, name)
