"""The report's figures in words, and nothing beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erase.eval.pages.phrases import (
    FEW,
    SPACE,
    called,
    complement,
    distance,
    interval,
    percent,
    points,
    words,
)
from erase.runtime.words import counted

SHOWN = 0.5
"""Share of the base's forget images below which the base is said not to show the concept."""


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
    word = called(report["concept"])
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
            "The base model itself rarely showed it, so a low figure after erasing says little."
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
                f"Retained images, by {by}: recognised correctly in {percent(base['value'])} of "
                f"{base['n']} before, {percent(erased['value'])} after."
            )
    return lines


def _classes(report: Mapping[str, Any]) -> list[str]:
    """The class that lost most; of those with few images a loss says nothing."""
    rows = [r for r in report["per_class"] if r["role"] == "retain" and r["erased"]["n"] >= FEW]
    if not rows:
        return []
    worst = min(rows, key=lambda r: r["change"])
    if worst["change"] >= 0:
        return [f"No retained class of {FEW} images or more got worse."]
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
    "A value below the floor only means that the difference is smaller than that between two draws "
    "of images, not that the model is better than the base."
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
