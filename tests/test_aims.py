"""What ``benchmarks.aims`` tells, by hand."""

from typing import Any

import pytest

from benchmarks.aims import HEAD, pooled, relearned, row, worst


def attack(erased: float, floor: float, ceiling: float, known: bool = True) -> dict[str, Any]:
    sides = {"erased": erased, "floor": floor, "ceiling": ceiling}
    shares: dict[str, Any] = {side: {"value": value} for side, value in sides.items()}
    curve = {side: {"10": {"value": value / 2}} for side, value in sides.items()}
    return shares | {"recovery": {"value": 0.0 if known else None}, "curve": curve}


def cell(**attacks: Any) -> dict[str, Any]:
    return {"recovery": {"attacks": attacks}}


def test_shares_are_averaged_before_r_is_taken() -> None:
    """Means of erased, floor and ceiling over the first two: 0.2, 0.05, 0.95."""
    cells = [
        cell(prefix=attack(0.1, 0.0, 1.0), words=attack(0.0, 0.0, 0.5)),
        cell(prefix=attack(0.3, 0.1, 0.9), words=attack(0.0, 0.0, 0.5)),
        cell(prefix=attack(0.9, 0.9, 0.9, known=False)),
    ]
    assert pooled(cells, "prefix") == pytest.approx(0.15 / 0.9)
    assert worst(cells, ("prefix", "words", "latent")) == "16.7 (prefix)"
    assert pooled(cells, "latent") is None and worst(cells, ("latent",)) == "–"


def test_relearning_is_told_beside_the_floor_where_there_is_one() -> None:
    never, without = attack(0.4, 0.2, 1.0), attack(0.8, 0.0, 1.0, known=False)
    assert relearned([cell(relearn=never), cell(relearn=without)]) == "30.0 (20.0 against 10.0)"
    assert relearned([cell(relearn=without)]) == "40.0"


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
