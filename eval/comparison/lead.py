"""What a comparison found, in sentences that claim no more than the intervals allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from erase.eval.comparison.compare import by_place, paired, row
from erase.eval.pages import phrases

FEW = 6
"""Concepts below which recipes are not ranked: an interval over so few covers less than it says."""
RANGE = (
    f"An interval over two concepts is their range, and over fewer than {FEW} it is little more: "
    f"it covers less than 95{phrases.SPACE}%."
)
"""Said of intervals by bootstrap over few concepts."""
ENDS = ("low", "high")
"""Keys of an interval's ends."""
LISTED = 4
"""Most differences that are each a sentence."""
SHARES = (("ua", "UA"), ("ira", "IRA"), ("cra", "CRA"))
"""Shares of images, which have an interval in every cell."""
RULE = (
    f"Two recipes differ when the 95{phrases.SPACE}% interval of their difference, paired by "
    f"concept and seed over at least {FEW} concepts, excludes 0; with fewer concepts, when the "
    f"95{phrases.SPACE}% intervals of their images do not overlap on any of them."
)
"""How recipes are told apart, printed beside the sentences."""


def few_told(result: Mapping[str, Any]) -> list[str]:
    """What is said of intervals over few concepts, where the tables have some."""
    return [RANGE] if any(1 < row["concepts"] < FEW for row in result["rows"]) else []


def lead(result: Mapping[str, Any]) -> list[str]:
    """The finding first, where there is one.

    Args:
        result: as in ``compare.json``.
    """
    if all(r["figures"]["harmonic"] is None for r in result["rows"]):
        return [
            "UA, IRA and CRA were not measured: the concepts have no judge.",
            *_under_attack(result),
        ]
    few = [p for p in result["paired"] if p["harmonic"] and p["harmonic"]["groups"] < FEW]
    enough = [p for p in result["paired"] if p["harmonic"] and p not in few]
    said = [] if few else _ranked(result)
    said += _differences(enough, _mean_of(result))
    said += [text for pair in few if (text := _apart(result, pair["first"], pair["second"]))]
    return [*said, *(_unranked(result, few) if few else ()), *_under_attack(result)]


def _under_attack(result: Mapping[str, Any]) -> list[str]:
    """Which recipes' models came to which verdict; [] where none was attacked."""
    by: dict[str, list[str]] = {}
    for own in result.get("attacks", ()):
        if verdicts := own["verdicts"]:
            only = verdicts if "," in verdicts else verdicts.removeprefix("1 ")
            by.setdefault(only, []).append(own["recipe"])
    told = "; ".join(f"{phrases.listed(names)}: {verdicts}" for verdicts, names in by.items())
    return [f"Under attack, {told}."] if told else []


def _mean_of(result: Mapping[str, Any]) -> str:
    """What recipes are ranked by: those of UA, IRA and CRA that were measured."""
    known = {
        title: [f for r in result["rows"] if (f := r["figures"][key]) is not None]
        for key, title in SHARES
    }
    own = [title for title, found in known.items() if found]
    if len(own) == 1:
        return own[0]
    most = max(sum(f["cells"] for f in found) for found in known.values())
    uneven = any(sum(f["cells"] for f in known[title]) < most for title in own)
    return f"harmonic mean of {phrases.listed(own)}{' where measured' if uneven else ''}"


def _ranked(result: Mapping[str, Any]) -> list[str]:
    """Who is best over the cells that all have, and who cannot be told from it."""
    ranks = {n: v for n, v in result["ranking"]["harmonic"].items() if v is not None}
    if not ranks:
        return ["No concept was measured for all recipes, so none of them is called the best."]
    highest = phrases.percent(max(ranks.values()))
    over = _cells(result)
    if len(ranks) == 1:
        return [f"{next(iter(ranks))} has a {_mean_of(result)} of {highest} over {over}."]
    best = [name for name in ranks if phrases.percent(ranks[name]) == highest]
    others = [name for name in ranks if name not in best]
    cells = _common(result["cells"], list(ranks))
    same = [name for name in others if not all(_above(cells, one, name) for one in best)]
    has = "share" if len(best) > 1 else "has"
    text = (
        f"{phrases.listed(best)} {has} the highest {_mean_of(result)}, {highest}, over {over} "
        "that all recipes have"
    )
    if same:
        are = "are" if len(same) > 1 else "is"
        them = best[0] if len(best) == 1 else "all of these"
        return [f"{text}; {phrases.listed(same)} {are} not distinguishable from {them}."]
    return [f"{text}." if not others else f"{text}, and can be told from all others."]


def _common(cells: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[Mapping[str, Any]]:
    """The recipes' cells of the places that all of them have."""
    own = [by_place(cells, name) for name in names]
    places = set.intersection(*(set(found) for found in own))
    return [found[place] for found in own for place in sorted(places)]


def _above(cells: Sequence[Mapping[str, Any]], one: str, other: str) -> bool:
    """Whether a recipe's harmonic mean is told to be larger than another's."""
    found = paired(cells, one, other)["harmonic"]
    return found is not None and found["value"] > 0 and phrases.clear(found, FEW)


def _unranked(result: Mapping[str, Any], few: Sequence[Mapping[str, Any]]) -> list[str]:
    counts = sorted({p["harmonic"]["groups"] for p in few})
    number = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    ranks = {n: v for n, v in result["ranking"]["harmonic"].items() if v is not None}
    names = phrases.listed([few[0]["first"], *(p["second"] for p in few)])
    values = ", ".join(f"{name} {phrases.percent(value)}" for name, value in ranks.items())
    means = f" ({values}; over {_cells(result)} that all recipes have)" if values else ""
    return [
        f"{number} concept{'s are' if counts[-1] > 1 else ' is'} too few to rank "
        f"{names} by the {_mean_of(result)}{means}: ranking takes {FEW}."
    ]


def _cells(result: Mapping[str, Any]) -> str:
    count = result["ranking"]["cells"]
    return f"the {count} cell{'' if count == 1 else 's'}"


def _differences(pairs: Sequence[Mapping[str, Any]], mean: str) -> list[str]:
    """Each with its interval; of many, who is told apart."""
    if len(pairs) <= LISTED:
        return [_difference(pair) for pair in pairs]
    below, same, above = (
        [p["second"] for p in pairs if _side(p["harmonic"]) == side] for side in (1, 0, -1)
    )
    first = pairs[0]["first"]
    said = [
        f"{first} is {how} {phrases.listed(names)}"
        for how, names in (
            ("above", below),
            ("below", above),
            ("not distinguishable from", same),
        )
        if names
    ]
    return [f"By the {mean}, {'; '.join(said)}."]


def _side(difference: Mapping[str, Any]) -> int:
    if not phrases.clear(difference, FEW):
        return 0
    return 1 if difference["value"] > 0 else -1


def _difference(pair: Mapping[str, Any]) -> str:
    found = pair["harmonic"]
    how = "the interval excludes 0" if phrases.clear(found, FEW) else "not distinguishable from 0"
    low, high = (phrases.points(found[end]) for end in ENDS)
    return (
        f"{pair['first']} against {pair['second']}: {phrases.points(found['value'])} points "
        f"({phrases.span(low, high, ' to ')}), {how}."
    )


def _apart(result: Mapping[str, Any], first: str, second: str) -> str:
    """The shares whose images tell two recipes apart on every concept and seed; empty for none."""
    own = [by_place(result["cells"], name) for name in (first, second)]
    common = sorted(set(own[0]) & set(own[1]))
    parts = []
    for key, title in SHARES:
        pairs = [tuple(by[place]["summary"]["erased"][key] for by in own) for place in common]
        if any(a is None or b is None for a, b in pairs):
            continue
        above = all(a["low"] > b["high"] for a, b in pairs)
        if above or all(a["high"] < b["low"] for a, b in pairs):
            means = [row("", [by[place] for place in common])["figures"][key] for by in own]
            a, b = (phrases.percent(mean["value"]) for mean in means)
            parts.append(f"{title} {'higher' if above else 'lower'}, {a} against {b}")
    if not parts:
        return ""
    concepts = sorted({concept for concept, _ in common})
    where = f"any of the {len(concepts)} concepts" if len(concepts) > 1 else "the one concept"
    return f"{first} against {second}: {'; '.join(parts)}; the intervals do not overlap on {where}."
