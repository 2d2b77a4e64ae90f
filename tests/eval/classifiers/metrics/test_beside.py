"""Figures beside the retrained models: ToW, agreement, class geometry, cost, accuracies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from erase.eval.classifiers.evidence import Case, Part, Side, softmax
from erase.eval.classifiers.metrics import accuracy, agreement, cost, geometry, tow
from erase.eval.figure import Figure
from tests.eval.classifiers.models import models


def says(name: str, **answers: list[int]) -> Side:
    """Answers with these classes, of three."""
    logits: dict[Part, np.ndarray] = {
        part: 5 * np.eye(3, dtype=np.float32)[v]  # type: ignore[misc]
        for part, v in answers.items()
    }
    return Side(name, logits)


LABELS: Mapping[Part, list[int]] = {
    "forget": [0, 0, 0, 0],
    "retain": [0, 1, 2, 1],
    "test": [1, 2],
    "forgotten": [0, 0, 0, 0, 0],
}
CASE = Case("class", ("a", "b", "c"), {k: np.array(v) for k, v in LABELS.items()}, forgotten=0)
UNLEARNED = says(
    "unlearned", forget=[0, 1, 1, 2], retain=[0, 1, 2, 2], test=[1, 2], forgotten=[0, 1, 1, 1, 1]
)
RETRAINED = says(
    "retrain-1", forget=[1, 1, 1, 2], retain=[0, 1, 2, 1], test=[1, 1], forgotten=[1] * 5
)


def by_key(rows: list[Figure]) -> dict[str, Figure]:
    return {row.key: row for row in rows if not row.group}


def test_the_accuracies_count_wrong_answers_where_it_should_forget() -> None:
    found = by_key(accuracy.measure(CASE, UNLEARNED, []))
    assert {key: row.value for key, row in found.items()} == {
        "ua": 0.75,
        "ra": 0.75,
        "ta": 1.0,
        "ua_test": 0.8,
    }
    assert found["ua_test"].n == 5


def test_tow_by_hand() -> None:
    # Accuracies 0.25, 0.75, 1 against 0, 1, 0.5.
    [found] = tow.measure(CASE, UNLEARNED, [RETRAINED])
    assert found.value == pytest.approx(0.75 * 0.75 * 0.5)
    assert (found.n, found.low) == (1, None)
    assert found.note == "1 retrained model, an interval needs 3"
    [same] = tow.measure(CASE, UNLEARNED, [UNLEARNED, UNLEARNED, UNLEARNED])
    assert (same.value, same.low, same.high) == (1.0, 1.0, 1.0)


def test_without_retrained_models_there_is_a_reason() -> None:
    rows = [*tow.measure(CASE, UNLEARNED, []), *agreement.measure(CASE, UNLEARNED, [])]
    rows += geometry.measure(CASE, UNLEARNED, [])[:1]
    assert len(rows) == 8
    assert {row.reason for row in rows} == {"no retrained model to compare with"}


def test_top_one_agreement_by_hand() -> None:
    found = by_key(agreement.measure(CASE, UNLEARNED, [RETRAINED]))
    assert found["agree_forget"].value == 0.75
    assert found["agree_retain"].value == 0.75
    assert found["agree_test"].value == 0.5
    two = by_key(agreement.measure(CASE, UNLEARNED, [RETRAINED, UNLEARNED]))["agree_test"]
    assert two.value == 0.75 and two.n == 2 and two.detail == "against 2 retrained models"
    assert two.low is not None and two.high is not None and two.low < 0.75 < two.high


def test_the_divergence_is_scipys_distance_squared() -> None:
    made = models()
    p, q = (softmax(s.logits["test"]) for s in (made.unlearned, made.retrained[0]))
    assert agreement.divergence(p, q) == pytest.approx(jensenshannon(p, q, base=2, axis=1) ** 2)
    apart = agreement.divergence(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]]))
    assert apart.tolist() == [1.0]
    assert agreement.divergence(p, p).tolist() == [0.0] * len(p)


def test_where_the_class_went() -> None:
    rows = geometry.measure(CASE, UNLEARNED, [RETRAINED])
    # Shares (1/4, 1/2, 1/4) against (0, 3/4, 1/4).
    assert rows[0].value == pytest.approx(0.25)
    assert {row.group: row.value for row in rows[1:]} == {"a": 0.25, "b": 0.5, "c": 0.25}
    assert {row.n for row in rows[1:]} == {4}
    [other] = geometry.measure(replace(CASE, forgotten=None), UNLEARNED, [RETRAINED])
    assert (other.value, other.reason) == (None, "no class is forgotten whole")


def test_the_cost_is_a_share_of_retraining() -> None:
    others = [Side("r", {}, samples=900.0, seconds=10.0), Side("s", {}, samples=1100.0)]
    samples, seconds = cost.measure(CASE, Side("u", {}, samples=150.0, seconds=2.0), others)
    assert (samples.value, samples.n) == (0.15, 2)
    assert (seconds.value, seconds.n) == (0.2, 1)
    unknown, _ = cost.measure(CASE, Side("u", {}), others)
    assert (unknown.value, unknown.reason) == (None, "not known of this model")
