"""What other labels turn into, on rows written by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from erase.eval.figure import Figure
from erase.eval.instruments.setting import Setting
from erase.eval.instruments.targets import Target
from erase.eval.metrics.classifier import Classifier
from erase.eval.metrics.entanglement import (
    NO_PAIRS,
    TOO_FEW,
    Entanglement,
    Row,
    build,
    matrix,
)
from erase.eval.metrics.fidelity import FidelityMetric
from erase.eval.report.evaluate import evaluate
from erase.eval.stats.paired import newcombe_paired
from tests.eval.synthetic import CHURCH, TRUCK, ColourFeatures, judges, write_run

PLACES = {"church": 0.0, "truck": 1.0, "radio": 2.0, "trumpet": 4.0, "owl": 7.0}
N = 12
METRIC = Entanglement(
    Classifier(judges(), Target("object", "church", "truck")), FidelityMetric(None)
)


def side(**wrong: int) -> list[Row]:
    """Twelve images of each label, the first ones of a label seen as the concept."""
    rows = []
    for label, place in PLACES.items():
        role = "forget" if label == "church" else "retain"
        for k in range(N):
            seen = "church" if k < wrong.get(label, 0) else label
            features = np.array([place + (-1) ** k, 3.0], np.float32)  # mean (place, 3)
            rows.append(Row((label, k), label, seen, role, features))
    return rows


def by_key(figures: list[Figure]) -> dict[str, Figure]:
    return {f.key: f for f in figures}


def test_the_largest_drop_is_named_and_its_interval_holds_for_all() -> None:
    base, erased = side(radio=1), side(truck=6, radio=4, trumpet=1)
    found = by_key(METRIC.score(erased, base))["largest_drop"]
    assert (found.value, found.n, found.detail) == (0.5, N, "truck")
    one = newcombe_paired(N - 6, 6, 0, 0, confidence=1 - 0.05 / 4)
    assert (found.low, found.high) == pytest.approx((-one.high, -one.low))
    drops = {d.label: d.change.value for d in METRIC.drops(erased, base)}
    assert drops == pytest.approx({"truck": 0.5, "radio": 0.25, "trumpet": 1 / 12, "owl": 0.0})
    assert list(drops) == ["truck", "radio", "trumpet", "owl"]
    # More right than before is no drop.
    better = by_key(METRIC.score(side(), base))["largest_drop"]
    assert (better.value, better.detail) == (0.0, "none dropped")


def test_near_labels_that_drop_most_are_a_correlation_of_minus_one() -> None:
    found = by_key(METRIC.score(side(truck=6, radio=4, trumpet=1), side()))["drop_by_distance"]
    assert (found.value, found.n) == (pytest.approx(-1), 4)
    # r = t/√(n-2+t²) at t of 2 degrees of freedom, 4.3027
    assert found.note == "chance stays within ±0.95"
    # Ranks of drops 3 4 1 2 at distances 1 2 3 4: 1 - 6·16/(4·15).
    mixed = by_key(METRIC.score(side(truck=4, radio=6, trumpet=0, owl=1), side()))
    assert mixed["drop_by_distance"].value == pytest.approx(1 - 6 * 16 / 60)
    distances = {d.label: d.distance for d in METRIC.drops(side(), side())}
    assert distances == pytest.approx({"truck": 1, "radio": 2, "trumpet": 4, "owl": 7})


def test_what_is_not_measured_has_a_reason() -> None:
    base = side()
    own = METRIC.score(base, base)
    assert (own[0].value, own[0].note) == (0.0, "by definition")
    assert own[1].reason == "not measured: nothing dropped"
    others = [replace(r, key=("elsewhere", *r.key)) for r in base]
    assert {f.reason for f in METRIC.score(base, others)} == {NO_PAIRS}
    assert METRIC.score(base) == []
    few = [r for r in base if r.asked == "church" or r.key[1] < 9]
    assert {f.reason for f in METRIC.score(few, base)} == {TOO_FEW}
    bare = [replace(r, features=None) for r in base]
    assert "no feature network" in str(METRIC.score(side(truck=3), bare)[1].reason)
    three = [r for r in base if r.asked != "owl"]
    assert METRIC.score(side(truck=3), three)[1].reason == (
        "not measured: fewer than 4 other labels"
    )
    elsewhere = build(Setting(CHURCH, TRUCK, "any", []))
    assert elsewhere.facts == {} and elsewhere.measure([]) == []
    assert {f.reason for f in elsewhere.score([])} == {"not measured: no judge"}


def test_the_matrix_counts_what_was_seen() -> None:
    base = side(radio=3)
    erased = [r for r in side(church=2, truck=6) if r.asked != "owl" or r.key[1] < 5]
    rows = [replace(r, seen="truck") if (r.asked, r.seen) == ("church",) * 2 else r for r in erased]
    panel = matrix(METRIC.drops(rows, base), base, rows, "object", "church")
    assert [c.title for c in panel.columns][3:] == ["church", "truck", "trumpet", "radio", "owl"]
    names = {r["object"].text: r for r in panel.rows}
    assert list(names) == ["church", "truck", "trumpet", "radio", "owl"]
    assert (names["church"]["seen truck"].text, names["church"]["seen truck"].shade) == ("12", 1.0)
    assert (names["truck"]["seen church"].text, names["truck"]["seen church"].shade) == ("6", 0.5)
    assert names["radio"]["before"].text == "75.0"
    assert names["owl"]["object"].note == "5 images: too few"
    assert names["owl"]["distance"].text == "–"


def test_the_matrix_stands_on_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    evaluate(run, CHURCH, TRUCK, judges=judges(), extractor=ColourFeatures())
    report = json.loads((run / "report.json").read_text())
    [panel] = report["panels"]
    cells = {row["object"]["text"]: row for row in panel["rows"]}
    # Counted by hand in tests.eval.synthetic: 8 of 10 churches became trucks, 2 of 4 radios.
    assert cells["church"]["seen truck"] == {"text": "8", "note": "", "tone": "", "shade": 0.8}
    assert cells["radio"]["seen truck"]["text"] == "2"
    page = (run / "report.html").read_text()
    assert "<h2>What each object turns into</h2>" in page and 'style="--shade: 80"' in page
    assert "## What each object turns into" in (run / "report.md").read_text()
    assert '<a href="#panel-1">What each object turns into</a>' in page
