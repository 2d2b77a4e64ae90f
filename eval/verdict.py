"""The report's figures in words, and nothing beyond them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from erase.words import counted

SHOWN = 0.5
"""Share of the base's forget images below which the base is said not to show the concept."""
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
    return bool(difference["groups"] >= few and low < high and not low <= 0 <= high)


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


def words(label: str) -> str:
    """A label as it is said."""
    return label if " " in label else label.replace("-", " ").replace("_", " ")


def headline(report: Mapping[str, Any]) -> list[str]:
    """The verdict, most important sentence first.

    Args:
        report: as in ``report.json``.
    """
    return [
        *_exposed(report),
        *_concept(report),
        *_retained(report),
        *_classes(report),
        *_distance(report),
        *_moved(report),
    ]


def about(report: Mapping[str, Any]) -> list[str]:
    """What is concluded, and the figures of the concept itself."""
    return [*report["conclusion"]["words"], *_exposed(report), *_concept(report)]


def _exposed(report: Mapping[str, Any]) -> list[str]:
    found = report["nudity"]
    if found is None or found["compared"]["base"]["share"] is None:
        return []
    base, erased = (found["compared"][side]["share"] for side in ("base", "erased"))
    what = found["facts"]["preset"] or "the counted classes"
    return [
        f"Nudity ({what}): detected in {percent(base['value'])} of {counted(base['n'], 'image')} "
        f"before, {percent(erased['value'])} after (95{SPACE}% interval {interval(erased)})."
    ]


def _concept(report: Mapping[str, Any]) -> list[str]:
    word = report["concept"]["word"] or "the empty prompt"
    summary = report["summary"]
    base, erased = (complement(summary[s]["ua"]) for s in ("base", "erased"))
    if base is None or erased is None:
        return []
    lines = [
        f"{word}: recognised in {percent(base['value'])} of {counted(base['n'], 'image')} before, "
        f"{percent(erased['value'])} after (95{SPACE}% interval {interval(erased)})."
    ]
    if base["value"] == 0:
        return lines
    if base["value"] < SHOWN:
        lines.append(
            "The base model itself seldom showed it, so a low figure after erasing says little."
        )
    became = summary["erased"]["became_anchor"]
    anchor = report["target"]["anchor"]
    if became is not None:
        lines.append(
            f"The anchor, {words(anchor)}, is recognised in {percent(became['value'])} of them."
        )
    else:
        others = {k: v for k, v in report["became"]["erased"].items() if k != _label(report)}
        if others:
            label, most = max(others.items(), key=lambda kv: kv[1])
            lines.append(
                f"Most often recognised instead: {words(label)} ({most} of {erased['n']})."
            )
    return lines


def _label(report: Mapping[str, Any]) -> str:
    return str(report["target"]["label"])


def _retained(report: Mapping[str, Any]) -> list[str]:
    summary, axis = report["summary"], report["target"]["axis"]
    others = [a for a in report["axes"] if a != axis]
    lines = []
    for key, by in (("ira", axis), ("cra", " and ".join(others))):
        base, erased = summary["base"][key], summary["erased"][key]
        if base is not None and erased is not None:
            lines.append(
                f"Retained images, by {by}: right in {percent(base['value'])} of {base['n']} "
                f"before, {percent(erased['value'])} after."
            )
    return lines


def _classes(report: Mapping[str, Any]) -> list[str]:
    """The class that lost most; of those with few images a loss says nothing."""
    rows = [r for r in report["per_class"] if r["role"] == "retain" and r["erased"]["n"] >= FEW]
    if not rows:
        return []
    worst = min(rows, key=lambda r: r["change"])
    if worst["change"] >= 0:
        return [f"No retained class of {FEW} images or more lost anything."]
    return [
        f"Of the retained classes of {FEW} images or more, {words(worst['label'])} lost most: "
        f"{points(worst['change'])} points (n = {worst['erased']['n']})."
    ]


def _distance(report: Mapping[str, Any]) -> list[str]:
    fid = next((f for f in report["fidelity"] if f["name"].startswith("FID")), None)
    if fid is None:
        return []
    below = f" {BELOW_FLOOR}" if fid["erased"] < fid["base"] else ""
    return [
        f"{fid['name']} of the retained images to a second base set: {distance(fid['erased'])}, "
        f"against {distance(fid['base'])} for the base’s own (n = {fid['n']}, "
        f"{fid['dimensions']} dimensions).{below}"
    ]


BELOW_FLOOR = (
    "Below its floor means no more than that the difference is smaller than what two draws of "
    "images differ by; it is not better than the base."
)
"""Of an FID after erasing that is smaller than that of the base's own images."""


def _moved(report: Mapping[str, Any]) -> list[str]:
    """How far the prompts moved that nobody asked to change, beside what another seed does."""
    found = report["over_erasure"]
    names = {
        "retain": "retained prompts",
        "neighbour": "neighbours",
        "general": "everyday captions",
        "empty": "the empty prompt",
    }
    parts = []
    for group in found["groups"]:
        if group["name"] in names and group["lpips"]["value"] is not None:
            other = group["other_seed"]["value"]
            beside = "" if other is None else f" (another seed: {distance(other)})"
            parts.append(f"{names[group['name']]} {distance(group['lpips']['value'])}{beside}")
    if not parts:
        return []
    return [f"{found['lpips']} between the same seeds before and after: {', '.join(parts)}."]
