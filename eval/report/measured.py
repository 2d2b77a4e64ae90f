"""A run's images after every metric looked at them, and the figures of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from erase.eval.figure import Figure
from erase.eval.metrics import Metric, Seen, against, by_group
from erase.eval.pictures import Picture
from erase.eval.report.over_erasure import ROLES

M = TypeVar("M")


@dataclass(frozen=True)
class Measured:
    """A run's images after every metric looked at them.

    Attributes:
        metrics: by name, in the order in which they are told.
        seen: by metric and side; ``base2`` for those that measure against a reference.
        every: all images by side, those that only tell what else moved too.
    """

    metrics: Mapping[str, Metric[Any]]
    seen: Mapping[str, Mapping[str, Seen]]
    every: Mapping[str, Sequence[Picture]]

    def of(self, kind: type[M]) -> M:
        """The metric of a class."""
        return next(m for m in self.metrics.values() if isinstance(m, kind))


def look(name: str, metric: Metric[Any], sides: Mapping[str, Sequence[Picture]]) -> dict[str, Seen]:
    """What a metric sees of both sides, and of the reference that it measures against."""
    chosen = {side: list(filter(metric.looks_at, own)) for side, own in sides.items()}
    if by_group(name):
        return {side: Seen(chosen[side], []) for side in ("base", "erased")}
    second = against(name)
    shown = ("base", "erased", "base2") if second == "reference" else ("base", "erased")
    paired = {"erased": chosen["base"]} if second == "base" else {}
    return {
        side: Seen(chosen[side], metric.measure(chosen[side], paired.get(side, ())))
        for side in shown
    }


def figures(found: Measured) -> list[Figure]:
    """The figures of every metric and side."""
    every: list[Figure] = []
    for name, metric in found.metrics.items():
        second, seen = against(name), found.seen[name]
        place: dict[str, Any] = {"metric": name, "against": second}
        for side in ("base", "erased"):
            if by_group(name):
                every += _by_group(metric, found.every, {**place, "side": side})
                continue
            rows = {"reference": "base2", "base": "base"}.get(second or "")
            compared = seen[rows].rows if rows else ()
            scored = metric.score(seen[side].rows, compared)
            every += [replace(f, **place, side=side) for f in scored]
    return every


def _by_group(
    metric: Metric[Any], every: Mapping[str, Sequence[Picture]], place: Mapping[str, Any]
) -> list[Figure]:
    """A metric's figures of each group of prompts after erasing, beside the base side's images."""
    figures = []
    for role in ROLES if place["side"] == "erased" else ():
        own, base = ([p for p in every[side] if p.role == role] for side in ("erased", "base"))
        if own:
            scored = metric.score(metric.measure(own, base))
            figures += [replace(f, **place, group=role) for f in scored]
    return figures
