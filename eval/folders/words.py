"""What ``erase eval --images`` measured, in words: the heading, the conclusion, the methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from erase.eval.figure import cell
from erase.eval.metrics.nudity import named
from erase.eval.pages import phrases
from erase.prompts.concept import own_name

CAVEAT = (
    "The detector also flags harmless pictures, so compare a share with that of the base model’s "
    "pictures, or of pictures known to be harmless, and look at what was flagged."
)
"""Printed beside every count of body parts."""
NAMED = 4
"""Most folders that are named; of more, how many."""
FIGURES = {
    "classifier": ("UA of {concept}",),
    "nudity": ("{counted}",),
    "fidelity": ("FID", "KID"),
    "lpips": ("LPIPS",),
    "clip_score": ("CLIP score",),
}
"""What a metric measures, in the order in which it is said."""


def counted(result: Mapping[str, Any]) -> str:
    """What the detector counted."""
    return named(result["metrics"]["nudity"])


def heading(result: Mapping[str, Any]) -> str:
    """What was measured, and where."""
    values = {
        "concept": _concept(result),
        "counted": counted(result) if "nudity" in result["metrics"] else "",
    }
    things = [
        text.format(**values)
        for key, texts in FIGURES.items()
        for text in texts
        if key in result["metrics"]
    ]
    things += dict.fromkeys(row["title"] for f in result["folders"] for row in _further(f))
    names = [folder["name"] for folder in result["folders"]]
    where = phrases.listed(names) if len(names) <= NAMED else f"{len(names)} folders"
    text = f"{phrases.listed(things or ['nothing measured'])} in {where}"
    return text[0].upper() + text[1:]


def conclusion(result: Mapping[str, Any]) -> list[str]:
    """The shares of every folder with their intervals, those of the base side last."""
    base = next((f for f in result["folders"] if f["name"] == result["base"]), None)
    others = [f for f in result["folders"] if f is not base]
    said = [text for f in others for text in _about(result, f, base)]
    if base:
        said += [*_recognised(result, base), *_detected(result, base)]
    return said


def _about(
    result: Mapping[str, Any], figures: Mapping[str, Any], base: Mapping[str, Any] | None
) -> Iterator[str]:
    yield from _recognised(result, figures)
    yield from _detected(result, figures)
    yield from _distances(figures, base or {})


def _recognised(result: Mapping[str, Any], figures: Mapping[str, Any]) -> Iterator[str]:
    found = (figures.get("classifier") or {}).get("ua")
    shown = phrases.complement(found)
    if shown is not None:
        yield (
            f"{figures['name']}: {_concept(result)} is recognised in {_share(shown)} of the "
            f"{shown['n']} images that should show it ({_interval(shown)})."
        )


def _detected(result: Mapping[str, Any], figures: Mapping[str, Any]) -> Iterator[str]:
    found = figures.get("nudity")
    if found is None or found["share"] is None:
        return
    yield (
        f"{figures['name']}: {counted(result)} detected in {found['images']} of {found['n']} "
        f"pictures, {_share(found['share'])} ({_interval(found['share'])})."
    )
    change = figures["nudity_change"]
    if change is not None:
        low, high = (phrases.points(change[end]) for end in ("low", "high"))
        yield (
            f"That is {phrases.points(change['value'])} points compared with {result['base']} "
            f"({low} to {high}; {change['n']} pairs)."
        )


def _concept(result: Mapping[str, Any]) -> str:
    return phrases.words(own_name(str(result["concept"])))


def _distances(figures: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[str]:
    floor = base.get("fidelity") or {}
    found = figures.get("fidelity") or {}
    parts = [
        f"{found[key]['name']} {phrases.distance(found[key]['value'])}"
        + (f" ({base['name']} {phrases.distance(floor[key]['value'])})" if floor.get(key) else "")
        for key in ("fid", "kid")
        if found.get(key)
    ]
    moved = figures.get("lpips")
    if moved and moved["value"] is not None:
        rows = (row for row in figures["figures"] if row["metric"] == "lpips")
        title = next((row["title"] for row in rows), "LPIPS")
        parts.append(f"{title} {phrases.distance(moved['value'])} over {moved['n']} pairs")
    score = figures.get("clip_score")
    if score and score["value"] is not None:
        parts.append(f"CLIP score {score['value']:.1f}")
    parts += [f"{row['title']} {cell(row, sign=True).text}" for row in _further(figures)]
    if parts:
        yield f"{figures['name']}: {', '.join(parts)}."


def _further(folder: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The figures that are measured and have no sentence of their own."""
    rows = folder.get("figures", ())
    return [row for row in rows if row["metric"] not in FIGURES and row["value"] is not None]


def _share(found: Mapping[str, Any]) -> str:
    return phrases.percent(found["value"])


def _interval(found: Mapping[str, Any]) -> str:
    return f"95{phrases.SPACE}% interval {phrases.interval(found)}"


LISTED = 6
"""Most items of a list that are printed."""


def facts_of(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A metric's facts as lines of a table: what, and its value as one reads it.

    Nested facts are named by their path; of a file only the name is told, of a hash and of a long
    list the beginning. Those that are None are left out.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from facts_of(inner, f"{name} {key}".strip().replace("_", " "))
    elif isinstance(value, list | tuple):
        shown = ", ".join(map(str, value[:LISTED]))
        more = f", … ({len(value)} in all)" if len(value) > LISTED else ""
        yield name, shown + more
    elif isinstance(value, float):
        yield name, f"{value:g}"
    elif value is not None and name.endswith("sha256"):
        yield name, str(value)[:16]
    elif value is not None:
        yield name, plain_path(str(value))


def plain_path(text: str) -> str:
    """A path, or a spec that ends in one, without the folders of the machine."""
    head, at, tail = text.partition("@")
    if at and Path(tail).is_absolute():
        return f"{head}@{Path(tail).name}"
    return Path(text).name if Path(text).is_absolute() else text
