"""A comparison's lines, worked out by hand from three cells."""

from __future__ import annotations

import csv
import io
from importlib.metadata import version
from typing import Any

import pytest

from erase.eval.classifiers.comparison import tables
from erase.eval.classifiers.comparison.compare import compare
from erase.eval.classifiers.gap import FOUR


def value(x: float | None, n: int = 3) -> dict[str, Any]:
    return {"value": x, "n": n, "low": x, "high": x, "reason": None if x is not None else "none"}


def four(ua: float, ra: float, ta: float, mia: float) -> dict[str, Any]:
    return {key: value(x) for key, x in zip(FOUR, (ua, ra, ta, mia), strict=True)}


def spread(seed: int) -> dict[str, Any]:
    counts = [0] * 48
    counts[10 + seed] = 4
    return {"n": 4, "counts": counts}


def cell(
    recipe: str,
    seed: int,
    ua: float,
    mean_gap: float,
    cost: float = 0.2,
    near: float | None = None,
) -> dict[str, Any]:
    return {
        "recipe": recipe,
        "forget": "random:0.1",
        "seed": seed,
        "forgotten": {
            "spec": "random:0.1",
            "kind": "random",
            "label": None,
            "samples": 10,
            "retained": 90,
        },
        "summary": {
            "base": four(0.0, 1.0, 0.9, 0.1),
            "unlearned": four(ua, 1.0, 0.86, 0.3),
            "retrain": four(0.1, 1.0, 0.88, 0.2),
            "mean_gap": value(mean_gap),
            "base_mean_gap": value(0.06),
            "floor": {"value": 0.005, "n": 3, "low": 0.001, "high": 0.02, "reason": None},
        },
        "confidence": {
            side: {part: spread(seed) for part in ("forget", "retain", "test")}
            for side in ("base", "unlearned", "retrain")
        },
        "figures": [
            {"key": "cost_samples", "side": "unlearned", "group": "", "value": cost},
            *(
                {"key": "near", "side": side, "group": group, **value(x)}
                for side, x in (("base", 0.9), ("unlearned", near), ("retrain", 0.8))
                for group in ("", "truck")
            ),
        ],
    }


CELLS = [
    cell("salun", 0, 0.08, 0.04),
    cell("salun", 1, 0.12, 0.05),
    cell("salun", 2, 0.16, 0.06),
    cell("finetune", 0, 0.02, 0.03, 1.25),
]


def test_lines_stand_between_the_untouched_model_and_retrain() -> None:
    lines = {line["name"]: line for line in compare(CELLS)["random:0.1"]}
    assert list(lines) == ["untouched", "salun", "finetune", "Retrain"]
    salun = lines["salun"]
    assert salun["four"]["ua"]["value"] == pytest.approx(0.12) and salun["seeds"] == 3
    far = {key: salun["distances"][key] for key in FOUR}
    assert far == pytest.approx({"ua": 0.02, "ra": 0.0, "ta": -0.02, "mia": 0.1})
    assert salun["gap"] == pytest.approx((0.02 + 0.0 + 0.02 + 0.1) / 4)
    gap = salun["mean_gap"]
    # Student's t with two degrees of freedom is 4.3027; the deviation is 0.01.
    half = 4.302653 * 0.01 / 3**0.5
    assert (gap["low"], gap["value"], gap["high"]) == pytest.approx(
        (0.05 - half, 0.05, 0.05 + half)
    )
    assert salun["cost"] == pytest.approx(0.2)
    assert lines["untouched"]["gap"] == pytest.approx((0.1 + 0.0 + 0.02 + 0.1) / 4)
    assert lines["Retrain"]["mean_gap"]["value"] == 0.005


def test_a_small_gap_that_is_won_by_not_forgetting_is_named() -> None:
    lines = {line["name"]: line for line in compare(CELLS)["random:0.1"]}
    assert {name for name, line in lines.items() if line["barely"]} == {"finetune"}
    text = tables.markdown(compare(CELLS))
    assert "| finetune (barely forgotten, 1 seed) |" in text and "| salun |" in text
    assert "| 125.0 |" in text  # a share, but one that can be above all
    rows = list(csv.DictReader(io.StringIO(tables.csv(compare(CELLS)))))
    [found] = [r for r in rows if (r["recipe"], r["figure"]) == ("salun", "ua")]
    assert float(found["value"]) == pytest.approx(0.12) and found["n"] == "3"


@pytest.mark.parametrize(("spread", "barely"), [(0.05, True), (0.09, False)])
@pytest.mark.parametrize("seeds", [1, 3])
def test_what_the_retrained_models_interval_holds_is_not_barely_forgotten(
    spread: float, barely: bool, seeds: int
) -> None:
    cells = [cell("finetune", s, 0.02 + s / 1000, 0.03) for s in range(seeds)]
    for each in cells:
        each["summary"]["retrain"]["ua"] |= {"low": 0.1 - spread, "high": 0.1 + spread}
    [line] = [x for x in compare(cells)["random:0.1"] if x["name"] == "finetune"]
    assert line["barely"] == barely


def test_a_gap_allows_for_the_retrained_models_too() -> None:
    cells = [cell("salun", s, 0.1, g) for s, g in enumerate((0.04, 0.05, 0.06))]
    for each in cells:  # half a width of t · 0.02, the lower end cut off
        gap = each["summary"]["mean_gap"]
        gap |= {"low": 0.0, "high": gap["value"] + 4.302653 * 0.02}
    [line] = [x for x in compare(cells)["random:0.1"] if x["name"] == "salun"]
    half = 4.302653 * (0.01**2 / 3 + 0.02**2) ** 0.5
    assert line["mean_gap"]["high"] == pytest.approx(0.05 + half)
    assert line["mean_gap"]["low"] == 0.0
    for each in cells:
        each["summary"]["mean_gap"] |= {"n": 2, "low": None, "high": None}
    assert "2 retrained models, an interval needs 3" in tables.markdown(compare(cells))


def test_without_retrained_models_the_gap_says_so() -> None:
    none = {"value": None, "n": 0, "low": None, "high": None, "reason": "no retrained model"}
    cells = [cell(name, 0, 0.1, 0.04) for name in ("salun", "finetune")]
    for each in cells:
        each["summary"] |= dict.fromkeys(("mean_gap", "base_mean_gap", "floor"), none)
        each["summary"]["retrain"] = dict.fromkeys(FOUR, none)
    text = tables.markdown(compare(cells))
    assert "– (no retrained model)" in text and "no seed" not in text
    assert "There is no retrained model, so no gap." in text and "paired" not in text


def test_chance_and_other_versions_are_told() -> None:
    cells = [cell("salun", s, 0.1, 0.04) for s in range(3)]
    assert "Chance" not in tables.markdown(compare(cells))
    assert "Measured by" not in tables.markdown(compare(cells))
    for each, found in zip(cells, ("0.0.1", "0.0.2", version("erase-diffusion")), strict=True):
        each["versions"] = {"erase-diffusion": found}
    note = "chance: the attack can't tell retained from test samples"
    cells[1]["figures"].append({"key": "mia", "side": "unlearned", "group": "", "note": note})
    text = tables.markdown(compare(cells))
    assert "Chance decides MIA, in part, of salun." in text
    assert "Measured by version 0.0.1 and 0.0.2, at least in part." in text


def test_the_page_has_every_recipe_and_the_floor() -> None:
    html = tables.page(compare(CELLS), CELLS, {"Data": "toy"}, "erase classifier compare")
    assert "2 ways to unlearn, beside retraining" in html
    assert "10 of 100 training samples, drawn at random" in html
    assert html.count("barely forgotten") == 2  # the row, and what it means
    assert "erase classifier compare" in html and html.count("<svg") == 2


def test_confidences_are_added_over_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        "erase.eval.classifiers.plots.spreads", lambda *given: drawn.append(given) or ""
    )
    tables.page(compare(CELLS), CELLS, {}, "")
    [(found, retrain, parts, _)] = drawn
    assert list(found) == ["untouched", "salun", "finetune"] and list(parts) == list(retrain)
    salun = found["salun"]["forget"]
    assert salun["n"] == 12 and salun["counts"][9:14] == [0, 4, 4, 4, 0]
    assert found["finetune"]["forget"]["n"] == 4 and retrain["test"]["n"] == 12


def test_gaps_are_compared_with_the_first_recipes_by_seed() -> None:
    others = [cell("scrub", s, 0.1, g) for s, g in enumerate((0.05, 0.08, 0.11))]
    lines = {line["name"]: line for line in compare([*CELLS[:3], *others])["random:0.1"]}
    more = lines["scrub"]["more"]
    half = 4.302653 * 0.02 / 3**0.5  # differences 0.01, 0.03, 0.05
    assert (more["low"], more["value"], more["high"]) == pytest.approx(
        (0.03 - half, 0.03, 0.03 + half)
    )
    result = compare([*CELLS[:3], *others])
    written = csv.DictReader(io.StringIO(tables.csv(result)))
    kept = [r for r in written if r["figure"] == "more"]
    assert {r["recipe"] for r in kept} == {n for n, line in lines.items() if line["more"]}
    assert all(lines[name]["more"] is None for name in ("untouched", "salun", "Retrain"))
    text = tables.markdown(compare([*CELLS[:3], *others]))
    assert "+3.0 (−2.0 to +8.0)" in text and "Gaps minus salun's are paired by seed" in text
    alone = tables.markdown(compare(CELLS[:3]))
    assert "paired by seed" not in alone and "minus the first" not in alone


def test_what_a_metric_compares_has_a_column_where_it_is_known() -> None:
    known = [cell("salun", s, 0.1, 0.04, near=0.7 + s / 100) for s in range(3)]
    lines = {line["name"]: line for line in compare(known)["random:0.1"]}
    assert lines["salun"]["others"]["near"]["value"] == pytest.approx(0.71)
    assert lines["salun"]["distances"]["near"] == pytest.approx(-0.09)
    assert lines["salun"]["gap"] == pytest.approx((0.0 + 0.0 + 0.02 + 0.1) / 4)
    text = tables.markdown(compare(known))
    assert "neighbours %" in text and "| 71.0 (−9.0) |" in text
    for each in known:
        each["figures"] = each["figures"][:1]
    assert "neighbours" not in tables.markdown(compare(known))


def test_what_one_seed_can_not_say_is_said_once() -> None:
    text = tables.markdown(compare([CELLS[0], CELLS[3]]))
    assert text.count("1 seed, an interval needs 3") == 1 and "| salun | " in text
    several = tables.markdown(compare(CELLS))  # one recipe alone lacks seeds: its row says so
    [row] = [line for line in several.splitlines() if "an interval needs 3" in line]
    assert row.startswith("| finetune (barely forgotten, 1 seed)")
    assert "Means over 3 seeds, of a recipe with fewer over those that its row tells" in several
