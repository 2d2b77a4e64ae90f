"""What the figures of a classifier's report say, and nothing beyond them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erase.eval.classifiers.gap import FOUR
from erase.eval.classifiers.metrics.membership import CHANCE, MIA
from erase.eval.classifiers.report.tables import points
from erase.eval.pages import phrases
from erase.runtime.words import counted

Report = Mapping[str, Any]
TONES = {
    "within reach of the floor": "better",
    "beyond the floor": "worse",
    "barely forgotten": "worse",
    "nothing concluded": "quiet",
}
"""Of the conclusions."""
SIDES = ("unlearned", "base", "retrain")
NAMES = {
    "unlearned": "unlearned model",
    "base": "untouched model",
    "retrain": "retrained models",
}


def verdict(report: Report) -> tuple[str, ...]:
    """The outcome, the most important sentence first."""
    return (*_asked(report), *_near(report), *_direction(report), *_largest(report))


def _asked(report: Report) -> list[str]:
    method = report["run"].get("method")
    by = f", by {method}" if method else ""
    return [f"To be forgotten: {asked(report['forgotten'])}{by}."]


def asked(forgotten: Mapping[str, Any]) -> str:
    """What was to be forgotten, as a phrase."""
    k, total = forgotten["samples"], forgotten["samples"] + forgotten["retained"]
    of = f"{k:,} of {total:,} training samples"
    match forgotten["kind"]:
        case "random":
            return f"{of}, drawn at random"
        case "class":
            return f"the class {forgotten['label']}, {of}"
        case "flipped":
            return f"{of}, which had been given wrong labels on purpose"
        case "cell":
            named = forgotten["spec"].partition(":")[2].replace("/", " in ")
            return f"{named}, {of}"
        case _:
            return f"{of}, from a list"


def _near(report: Report) -> list[str]:
    """How far from retrained models, beside how far these are from each other."""
    found, models = report["summary"], counted(report["retrained"], "retrained model")
    gap, floor, base = found["mean_gap"], found["floor"], found["base_mean_gap"]
    if gap["value"] is None:
        return [f"How near that is to exact unlearning is not known: {gap['reason']}."]
    lines = [
        f"Over UA, RA, TA and MIA the unlearned model lies {_points(gap)} points from a model that "
        f"was retrained without them, on average over {models}; the untouched model lies "
        f"{_points(base)} from it."
    ]
    if floor["value"] is None:
        lines += _doubted(report)
        lines.append(
            "How far two retrained models lie from each other, which is the least to expect, takes "
            "two of them."
        )
        return lines
    lines.append(f"Two retrained models lie {_points(floor)} points from each other: the floor.")
    lines += _concluded(report)
    return [*lines, *_doubted(report)]


def _doubted(report: Report) -> list[str]:
    """What of the gap is chance."""
    notes = {
        row["side"]: row["note"]
        for row in report["figures"]
        if row["key"] == MIA.key and row["note"].startswith(CHANCE)
    }
    found = [f"the {NAMES[side]} ({notes[side]})" for side in NAMES if side in notes]
    if not found:
        return []
    return [f"MIA, a quarter of the gap, says nothing of {phrases.listed(found)}."]


def _concluded(report: Report) -> list[str]:
    found = report["summary"]
    match report["conclusion"]:
        case "barely forgotten":
            own, base, right = (phrases.percent(found[side]["ua"]["value"]) for side in SIDES)
            return [
                f"Barely forgotten: its UA, {own}, is nearer to the untouched model’s {base} than "
                f"to the retrained models’ {right}, so a small gap says little."
            ]
        case "within reach of the floor":
            return [
                "The two intervals meet: by this average it is not told from a retrained model. "
                "Single figures may tell it; see below."
            ]
        case "beyond the floor":
            return ["It is further away than retrained models are from each other."]
        case _:
            reason = found["mean_gap"]["reason"]
            return [f"Nothing is concluded from that: {reason}."]


def _direction(report: Report) -> list[str]:
    """What UA should be, which is not as high as can be."""
    found = report["summary"]
    ua, target = found["unlearned"]["ua"], found["retrain"]["ua"]
    if ua["value"] is None or target["value"] is None:
        return []
    own, right = _share(ua), _share(target)
    if report["forgotten"]["kind"] == "class":
        return [
            f"It gets {own} of the class’s samples wrong (UA); retrained models, which never saw "
            f"the class, {right}."
        ]
    if report["forgotten"]["kind"] == "flipped":
        return [
            f"It gets {own} of these samples wrong by the labels that they were given (UA); "
            f"retrained models, which never saw those, {right}."
        ]
    moved = found["distances"]["ua"]
    how = "is as often wrong about these samples as they are, as far as can be told"
    if moved["low"] is None:
        how = "can be held against that figure alone"
    elif moved["low"] > 0:
        how = "is wrong about these samples more often than they are, which betrays them too"
    elif moved["high"] < 0:
        how = "is wrong about these samples less often than they are"
    return [
        "UA is not “higher is better” here: it should equal that of retrained models, which have "
        f"not seen these samples and get {right} of them wrong. The unlearned model’s is {own}: it "
        f"{how}."
    ]


def _largest(report: Report) -> list[str]:
    """The figure that is furthest away: an average may hide it."""
    found = report["summary"]
    known = {k: found["distances"][k] for k in FOUR if found["distances"][k]["value"] is not None}
    if not known:
        return []
    key = max(known, key=lambda k: abs(known[k]["value"]))
    if phrases.points(known[key]["value"]) == "0":
        return []
    own, target = (phrases.percent(found[s][key]["value"]) for s in ("unlearned", "retrain"))
    moved = points(known[key], sign=True)
    return [
        f"Of the four distances {key.upper()}’s is the largest: {own} against Retrain’s {target}, "
        f"{moved.text} points ({moved.note})."
    ]


def _points(found: Mapping[str, Any]) -> str:
    shown = points(found)
    # Why there is no interval is said once, where nothing is concluded.
    return f"{shown.text} ({shown.note})" if found["low"] is not None else shown.text


def _share(found: Mapping[str, Any]) -> str:
    text = phrases.percent(found["value"])
    if found["low"] is None:
        return text
    span = phrases.NO_SPREAD if found["low"] == found["high"] else phrases.interval(found)
    return f"{text} ({span}, n = {found['n']:,})"
