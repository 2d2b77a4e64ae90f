"""What ``benchmarks.aims`` tells, by hand."""

from typing import Any

import pytest

from benchmarks.aims import HEAD, check, pooled, relearned, row, worst


def attack(erased: float | None, floor: float | None, ceiling: float) -> dict[str, Any]:
    sides = {"erased": erased, "floor": floor, "ceiling": ceiling}
    shares: dict[str, Any] = {side: {"value": value} for side, value in sides.items()}
    curve = {s: {"10": {"value": value / 2}} for s, value in sides.items() if value is not None}
    return shares | {"curve": curve}


def cell(**attacks: Any) -> dict[str, Any]:
    return {"recovery": {"attacks": attacks}}


def test_shares_are_averaged_before_r_is_taken() -> None:
    """Means of erased, floor and ceiling over the first two: 0.2, 0.05, 0.95."""
    cells = [
        cell(prefix=attack(0.1, 0.0, 1.0), words=attack(0.0, 0.0, 0.5)),
        cell(prefix=attack(0.3, 0.1, 0.9), words=attack(0.0, 0.0, 0.5)),
        cell(prefix=attack(0.9, None, 0.9), latent=attack(1.0, 0.6, 1.0)),
    ]
    assert pooled(cells, "prefix") == (pytest.approx(0.15 / 0.9), 2)
    assert worst(cells, ("prefix", "words", "latent")) == "16.7 (prefix, 2 of 3 cells)"
    assert worst(cells[:2], ("prefix", "words")) == "16.7 (prefix)"
    # What the base hardly shows more of than a model that never knew tells nothing.
    assert pooled(cells, "latent") is None and worst(cells, ("latent",)) == "–"


def test_relearning_is_told_beside_the_floor_where_there_is_one() -> None:
    never, without = attack(0.4, 0.2, 1.0), attack(0.8, None, 1.0)
    assert relearned([cell(relearn=never), cell(relearn=without)]) == "30.0 (20.0 against 10.0)"
    assert relearned([cell(relearn=without)]) == "40.0"
    assert relearned([cell(prefix=never)]) == "–"


def test_cells_that_are_not_to_be_averaged_are_refused() -> None:
    def one(seed: int, **more: Any) -> dict[str, Any]:
        own = {"concept": "church", "seed": seed, "settings": {"lr": 1.0}, "base": "b"} | more
        return own | {"recovery": {"budget": more.get("budget", "quick")}}

    check("own", [one(0), one(1)])
    for other, said in (
        (one(0), "twice"),
        (one(1, settings={"lr": 2.0}), "differ in settings"),
        (one(1, base="c"), "differ in base"),
        (one(1, budget="full"), "different budgets"),
    ):
        with pytest.raises(SystemExit, match=said):
            check("own", [one(0), other])


def test_a_row_averages_the_erased_models_figures_over_its_cells() -> None:
    cells = [
        cell(prefix=attack(0.2, 0.0, 1.0), relearn=attack(0.4, 0.2, 1.0))
        | {
            "figures": [
                {"key": "ua", "side": side, "group": "", "value": value}
                for side, value in (("base", 0.0), ("erased", ua))
            ]
            + [{"key": "lpips", "side": "erased", "group": "general", "value": 1.5}],
            "training_seconds": None,
            "forwards": 100.0,
        }
        for ua in (0.9, 1.0)
    ]
    told = dict(zip(HEAD, row("own", cells), strict=True))
    assert told["text R %"] == "20.0 (prefix)" and told["inversion R %"] == "–"
    assert told["UA %"] == "95.0" and told["LPIPS[mini], everyday"] == "1.50"
    assert told["IRA %"] == told["seconds"] == "–"
    assert told["forwards"] == "100" and told["cells"] == "2"
