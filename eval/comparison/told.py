"""What a comparison has to say of its figures: who measured them, and what to mind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erase.eval.figure import Cell
from erase.eval.pages import phrases


def measured_by(metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The judges and networks of a report's metrics, a line each; what a cell keeps of them.

    Args:
        metrics: by metric, what its figures depend on.
    """
    judges = metrics.get("classifier", {}).get("judges") or {}
    features = metrics.get("fidelity", {}).get("extractor")
    lines = [
        f"judge by {axis}: {own['spec']}, {len(own['labels'])} classes{_hash(own)}"
        for axis, own in judges.items()
    ]
    if features:
        size = f"{features['dimensions']} features"
        lines.append(f"FID and KID: {features['name']}, {size}{_hash(features)}")
    for name, title in (("clip_score", "CLIP score"), ("lpips", "LPIPS")):
        own = metrics.get(name, {})
        if network := own.get("model") or own.get("name"):
            lines.append(f"{title}: {network}{_hash(own)}")
    nudity = metrics.get("nudity", {})
    if nudity.get("detector"):
        classes = phrases.listed([phrases.words(c.lower()) for c in nudity["counted"]])
        lines.append(
            f"nudity: {nudity['detector']}, a score above {nudity['threshold']:g} for {classes}"
            f"{_hash(nudity)}"
        )
    return lines


def _hash(facts: Mapping[str, Any]) -> str:
    return f" (sha256 {facts['sha256'][:16]})" if facts.get("sha256") else ""


def networks(cells: Sequence[Cell]) -> list[str]:
    """Who measured the cells' figures, with the concepts where it was not the same for all."""
    return _by_concept(cells, "measured_by")


def warnings(cells: Sequence[Cell]) -> list[str]:
    """What the cells' reports ask to mind, once each."""
    return _by_concept(cells, "warnings")


def _by_concept(cells: Sequence[Cell], key: str) -> list[str]:
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        for line in cell.get(key, ()):
            found.setdefault(line, {})[cell["concept"]] = None
    every = {cell["concept"] for cell in cells}
    return [
        line if own.keys() == every else f"{line.rstrip('.')} ({phrases.listed([*own])})."
        for line, own in found.items()
    ]
