"""What cells say together: means over seeds, gaps to Retrain beside their floor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from statistics import fmean, stdev
from typing import Any

from erase.eval.classifiers.gap import FOUR, MODEL, barely_forgotten
from erase.eval.classifiers.metrics import bounds, compared
from erase.eval.classifiers.metrics.membership import CHANCE, MIA
from erase.eval.pages import phrases
from erase.eval.stats.repeated import FEWEST, Repeated, repeated, student, too_few, within

Cell = Mapping[str, Any]
"""The content of a ``cell.json``: a run's summary and figures with its recipe, forget set, seed."""
SEED = "seed"
TOOLKIT = "erase-diffusion"


@dataclass(frozen=True)
class Line:
    """A recipe on one forget set.

    Attributes:
        name: of the recipe; ``untouched`` and ``Retrain`` for the two ends.
        four: UA, RA, TA and MIA, means over the seeds; of Retrain over the retrained models.
        others: what else metrics compare, by key, likewise; of their own figures without a group.
        distances: both minus the retrained models' means.
        gap: of means over the seeds, from the means of the retrained models.
        mean_gap: mean over the seeds of the gap of each from the retrained models, on average over
            these; of Retrain, the floor.
        cost: samples seen as a share of Retrain's, mean over the seeds.
        more: ``mean_gap`` minus the first recipe's, paired by seed; None where it is that one.
        barely: whether UA is nearer to the untouched model's than to Retrain's, and outside the
            interval of these.
        chance: whether chance decides MIA with any seed, see ``metrics.membership``.
        versions: of the toolkit, that the cells were measured by.
        seeds: how many.
    """

    name: str
    four: Mapping[str, Repeated]
    others: Mapping[str, Repeated]
    distances: Mapping[str, float | None]
    gap: float | None
    mean_gap: Repeated
    cost: float | None
    more: Repeated | None
    barely: bool
    chance: bool
    versions: tuple[str, ...]
    seeds: int


def compare(cells: Sequence[Cell]) -> dict[str, list[dict[str, Any]]]:
    """By what is forgotten, a line for each recipe between the untouched model and Retrain.

    Args:
        cells: finished ones, in the order of the recipes.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for forget in dict.fromkeys(cell["forget"] for cell in cells):
        own = [cell for cell in cells if cell["forget"] == forget]
        first = [cell for cell in own if cell["recipe"] == own[0]["recipe"]]
        lines = [_line("untouched", first, "base", "base_")]
        for recipe in dict.fromkeys(cell["recipe"] for cell in own):
            mine = [c for c in own if c["recipe"] == recipe]
            known = all(_values(part, "mean_gap") for part in (mine, first))
            more = _more(mine, first) if known and recipe != first[0]["recipe"] else None
            lines.append(replace(_line(recipe, mine, "unlearned", ""), more=more))
        found[forget] = [asdict(line) for line in [*lines, _retrain(first[0])]]
    return found


def _more(cells: Sequence[Cell], first: Sequence[Cell]) -> Repeated:
    """How far the gap exceeds that of other cells with the same seeds."""
    gaps = [{c["seed"]: c["summary"]["mean_gap"]["value"] for c in own} for own in (cells, first)]
    pairs = [(value, gaps[1].get(seed)) for seed, value in gaps[0].items()]
    return repeated([x - y for x, y in pairs if x is not None and y is not None], SEED)


def _values(cells: Sequence[Cell], *path: str) -> list[float]:
    """A figure of every cell that has it."""
    found = []
    for cell in cells:
        value: Any = cell["summary"]
        for key in path:
            value = value[key]
        if value["value"] is not None:
            found.append(float(value["value"]))
    return found


def _others(cells: Sequence[Cell], side: str) -> dict[str, Repeated]:
    """What metrics compare, of one side."""
    found = {}
    for column in compared():
        own = [
            float(row["value"])
            for cell in cells
            for row in cell["figures"]
            if (row["key"], row["side"], row["group"]) == (column.key, side, "")
            and row["value"] is not None
        ]
        found[column.key] = within(
            repeated(own, SEED), *bounds().get(column.key, (-math.inf, math.inf))
        )
    return found


def _line(name: str, cells: Sequence[Cell], side: str, prefix: str) -> Line:
    four = {key: within(repeated(_values(cells, side, key), SEED), 0.0, 1.0) for key in FOUR}
    others = _others(cells, side)
    retrained = {key: cells[0]["summary"]["retrain"][key]["value"] for key in FOUR}
    retrained |= {key: value.value for key, value in _others(cells[:1], "retrain").items()}
    base = fmean(_values(cells, "base", "ua"))
    distances = {
        key: None if value.value is None or retrained[key] is None else value.value - retrained[key]
        for key, value in {**four, **others}.items()
    }
    known = [abs(d) for key in FOUR if (d := distances[key]) is not None]
    ua = four["ua"].value
    barely = (
        side == "unlearned"
        and ua is not None
        and retrained["ua"] is not None
        and barely_forgotten(ua, base, retrained["ua"])
        and not _holds(Repeated(**cells[0]["summary"]["retrain"]["ua"]), ua)
    )
    costs = [
        float(row["value"])
        for cell in cells
        for row in cell["figures"]
        if (row["key"], row["side"]) == ("cost_samples", side) and row["value"] is not None
    ]
    return Line(
        name,
        four,
        others,
        distances,
        fmean(known) if len(known) == len(FOUR) else None,
        _mean_gap(cells, f"{prefix}mean_gap"),
        fmean(costs) if costs and side == "unlearned" else None,
        None,
        barely,
        any(_chance(cell, side) for cell in cells),
        tuple(sorted({cell["versions"][TOOLKIT] for cell in cells if "versions" in cell})),
        len(cells),
    )


def _mean_gap(cells: Sequence[Cell], key: str) -> Repeated:
    """Over seeds. All of these are compared with the same retrained models, of which each cell's
    own interval says how far others would move it: both errors make up the interval."""
    values, own = _values(cells, key), [Repeated(**cell["summary"][key]) for cell in cells]
    if not values:
        return Repeated(reason=own[0].reason)
    found, models = repeated(values, SEED), min(one.n for one in own)
    if found.low is None or found.value is None or models < FEWEST:
        return Repeated(found.value, found.n, reason=found.reason or too_few(models, MODEL))
    seeds = stdev(values) / math.sqrt(found.n)
    others = fmean(_error(one) ** 2 for one in own)
    half = student(min(found.n, models) - 1) * math.sqrt(seeds**2 + others)
    return within(Repeated(found.value, found.n, found.value - half, found.value + half), 0.0, 1.0)


def _error(found: Repeated) -> float:
    """The standard error that an interval was made from; an end that was cut off is the nearer."""
    if found.value is None or found.low is None or found.high is None:
        return 0.0
    half = max(found.value - found.low, found.high - found.value)
    return half / student(found.n - 1)


def _chance(cell: Cell, side: str) -> bool:
    """Whether chance decides a side's MIA."""
    return any(
        (row["key"], row["side"]) == (MIA.key, side) and row["note"].startswith(CHANCE)
        for row in cell["figures"]
    )


def _holds(found: Repeated, value: float) -> bool:
    """Whether a value lies in a figure's interval."""
    return found.low is not None and found.high is not None and found.low <= value <= found.high


def _retrain(cell: Cell) -> Line:
    own = cell["summary"]
    four = {key: Repeated(**own["retrain"][key]) for key in FOUR}
    others = dict.fromkeys((column.key for column in compared()), Repeated())
    for row in cell["figures"]:
        if row["key"] in others and (row["side"], row["group"]) == ("retrain", ""):
            others[row["key"]] = Repeated(
                *(row[k] for k in ("value", "n", "low", "high", "reason"))
            )
    floor = Repeated(**own["floor"])
    return Line(
        "Retrain",
        four,
        others,
        dict.fromkeys([*FOUR, *others], 0.0),
        None,
        floor,
        1.0,
        None,
        False,
        _chance(cell, "retrain"),
        (),
        floor.n,
    )


def note(lines: Sequence[Mapping[str, Any]]) -> str:
    """How the lines of a forget set are to be read."""
    counts, models = {line["seeds"] for line in lines[:-1]}, lines[-1]["seeds"]
    seeds = lines[0]["seeds"]
    fewer = ", of a recipe with fewer over those that its row tells" if len(counts) > 1 else ""
    paired = (
        f" Gaps minus {lines[1]['name']}'s are paired by seed, for these {MODEL}s."
        if any(line["more"] and line["more"]["value"] is not None for line in lines)
        else ""
    )
    few = f" No interval: {too_few(seeds, SEED)}." if seeds < FEWEST else ""
    chance = [line["name"] for line in lines if line["chance"]]
    doubt = f" Chance decides MIA, in part, of {phrases.listed(chance)}." if chance else ""
    others = sorted({v for line in lines for v in line["versions"]} - {version(TOOLKIT)})
    older = f" Measured by version {phrases.listed(others)}, at least in part." if others else ""
    if not models:
        floor = f"There is no {MODEL}, so no gap."
    else:
        floor = f"Retrain's gap is the floor, the distance of two {MODEL}s."
    over = f"{seeds} seed{'s' if seeds != 1 else ''}{fewer}"
    return (
        f"Means over {over}, of Retrain over {models} {MODEL}"
        f"{'s' if models != 1 else ''}; with each figure its distance from Retrain's, in points. "
        f"{floor}{paired}{few}{doubt}{older}"
    )
