"""Figures as text: shares, intervals, differences, lists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

FEW = 10
"""Images of a class below which a loss says nothing."""
SPACE, MINUS, DASH = "\u00a0", "\u2212", "\u2013"

Figure = Mapping[str, Any] | None
"""``{value, n, low, high}``, or None where not measured."""


def listed(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def missing(titles: Sequence[str], named: int = 6) -> str:
    """Which cells of a comparison are missing, each ``RECIPE, CONCEPT, seed N``: the cells, or, of
    more than ``named``, how many a recipe lacks."""
    if len(titles) <= named:
        return f"Missing: {'; '.join(titles)}."
    return f"{len(titles)} cells are missing: {by_recipe(titles)}."


def by_recipe(titles: Sequence[str]) -> str:
    """How many cells are each recipe's: ``3 of esd-x, 1 of uce``."""
    counts = Counter(title.split(",")[0] for title in titles)
    return ", ".join(f"{count} of {recipe}" for recipe, count in counts.items())


def number(value: float) -> str:
    """A percentage without its sign; 0 and 100 only where they are exact."""
    percent = 100 * value
    if percent in (0, 100):
        return f"{percent:.0f}"
    if percent < 0.05:
        return "<0.1"
    return ">99.9" if percent >= 99.95 else f"{percent:.1f}"


def percent(value: float) -> str:
    """``99.2 %``."""
    return f"{number(value)}{SPACE}%"


def interval(figure: Mapping[str, Any]) -> str:
    """``95.4–99.9 %``."""
    return f"{number(figure['low'])}{DASH}{number(figure['high'])}{SPACE}%"


def signed(value: float, text: Callable[[float], str]) -> str:
    """A difference with its sign."""
    return text(value) if value < 0 else f"+{text(value)}"


NO_SPREAD = "no spread"
"""In place of an interval whose ends print alike, which would read as certainty."""


def span(low: str, high: str, between: str = DASH) -> str:
    """An interval of means as it is printed."""
    return NO_SPREAD if low == high else f"{low}{between}{high}"


def clear(difference: Mapping[str, Any], few: int) -> bool:
    """Whether a mean difference over groups is told from 0: enough groups, an interval beside 0."""
    low, high = difference["low"], difference["high"]
    return bool(difference["groups"] >= few and not low <= 0 <= high)


def points(change: float) -> str:
    """A difference of two shares in percentage points, signed."""
    size = f"{abs(100 * change):.1f}"
    return "0" if size == "0.0" else f"{MINUS if change < 0 else '+'}{size}"


def distance(value: float) -> str:
    """Three significant digits."""
    return f"{value:#.3g}".rstrip(".").replace("-", MINUS)


def complement(figure: Figure) -> Figure:
    """The share of the other images: recognised instead of not recognised."""
    if figure is None:
        return None
    return {
        "value": 1 - figure["value"],
        "n": figure["n"],
        "low": 1 - figure["high"],
        "high": 1 - figure["low"],
    }


def called(concept: Mapping[str, Any], nameless: str = "the empty prompt") -> str:
    """A report's concept as sentences call it: by its word; nudity, whose word is one of many
    prompts', by its name."""
    return str(concept["name"] if concept["kind"] == "nudity" else concept["word"]) or nameless


def words(label: str) -> str:
    """A label as it is said."""
    return label if " " in label else label.replace("-", " ").replace("_", " ")


def instead(anchor: str | None) -> str:
    """What a concept becomes, by name; None where the method asked for nothing."""
    return "none" if anchor is None else anchor or "the empty prompt"
