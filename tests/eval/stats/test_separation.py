"""How well a score tells two groups apart, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from erase.eval.stats.separation import auc, true_positives

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("rounded", [1, 6])
def test_the_area_is_scikit_learns_with_and_without_ties(rounded: int) -> None:
    a = RANDOM.normal(0.4, 1, 70).round(rounded)
    b = RANDOM.normal(0, 1, 90).round(rounded)
    found = auc(a, b)
    truth = np.repeat([1, 0], [70, 90])
    assert found.value == pytest.approx(roc_auc_score(truth, np.concatenate([a, b])))
    assert found.n == 70


def test_the_interval_by_hand() -> None:
    # Positives 2, 4 lie above 1 and 2 of the negatives 1, 3: V1 = (1/2, 1), V0 = (1, 1/2).
    # Both have the variance 1/8, so the error is sqrt(1/16 + 1/16) and the interval is cut at 1.
    found = auc(np.array([2.0, 4.0]), np.array([1.0, 3.0]))
    assert found.value == 0.75
    assert found.low == pytest.approx(0.75 - 1.959964 * np.sqrt(1 / 8))
    assert found.high == 1.0


def test_the_interval_covers_what_resampling_gives() -> None:
    a, b = RANDOM.normal(0.5, 1, 300), RANDOM.normal(0, 1, 300)
    found = auc(a, b)
    again = [auc(RANDOM.choice(a, 300), RANDOM.choice(b, 300)).value or 0.0 for _ in range(400)]
    assert found.low is not None and found.high is not None
    width = 2 * 1.96 * np.std(again)
    assert found.high - found.low == pytest.approx(width, rel=0.15)


def test_groups_apart_have_no_interval_and_single_ones_no_area() -> None:
    apart = auc(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    assert (apart.value, apart.low, apart.high) == (1.0, None, None)
    single = auc(np.array([2.0]), np.array([0.0, 1.0]))
    assert single.value is None and single.reason


def test_true_positives_are_those_of_the_roc_curve() -> None:
    a, b = RANDOM.normal(1, 1, 500), RANDOM.normal(0, 1, 1500)
    found = true_positives(a, b)
    fpr, tpr, _ = roc_curve(np.repeat([1, 0], [500, 1500]), np.concatenate([a, b]))
    assert found.value == pytest.approx(tpr[fpr <= 0.01].max())
    assert found.n == 500


def test_ties_at_the_threshold_do_not_count() -> None:
    # 10 of 1000 negatives may lie above it; the eleventh is tied with half of the positives.
    negative = np.concatenate([np.full(10, 3.0), np.full(990, 1.0)])
    found = true_positives(np.array([1.0, 2.0, 1.0, 2.0]), negative)
    assert found.value == 0.5


def test_too_few_negatives_are_refused() -> None:
    found = true_positives(np.ones(5), np.zeros(999))
    assert found.value is None
    assert "999 test samples, 1,000 are needed" in str(getattr(found, "reason", ""))
    assert true_positives(np.ones(5), np.zeros(1000)).value == 1.0
