"""The loss attack and RMIA, against scikit-learn and the formula written out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from torch import tensor
from torch.nn.functional import cross_entropy

from erase.eval.classifiers.evidence import confidence
from erase.eval.classifiers.metrics import loss_attack, rmia
from tests.eval.classifiers.models import models


def test_the_loss_attack_is_the_area_of_minus_the_loss() -> None:
    made = models()
    loss = {
        part: cross_entropy(
            tensor(made.base.logits[part]).double(),
            tensor(made.case.labels[part]),
            reduction="none",
        ).numpy()
        for part in ("forget", "attack")
    }
    truth = np.repeat([1, 0], [40, 120])
    expected = roc_auc_score(truth, -np.concatenate([loss["forget"], loss["attack"]]))
    area, rate = loss_attack.measure(made.case, made.base, [])
    assert area.value == pytest.approx(expected)
    assert area.n == 40 and area.detail == "against 120 test samples"
    assert area.low is not None and area.high is not None
    assert area.low < expected < area.high
    assert rate.value is None and "1,000 are needed" in (rate.reason or "")


def test_it_looks_at_the_samples_that_are_set_aside_alone() -> None:
    made = models()
    before = loss_attack.measure(made.case, made.base, [])
    own = {k: v for k, v in made.base.logits.items() if k in ("forget", "attack")}
    assert loss_attack.measure(made.case, replace(made.base, logits=own), []) == before
    labels = {k: v for k, v in made.case.labels.items() if k != "attack"}
    refused = loss_attack.measure(replace(made.case, labels=labels), made.base, [])
    assert all(row.value is None and row.reason for row in refused)


def test_groups_that_do_not_overlap_have_a_note_in_place_of_an_interval() -> None:
    made = models()
    logits = {**made.base.logits, "forget": 100 * np.eye(4)[made.case.labels["forget"]]}
    side = replace(made.base, logits={k: v.astype(np.float32) for k, v in logits.items()})
    area, _ = loss_attack.measure(made.case, side, [])
    assert (area.value, area.low, area.note) == (1.0, None, "the two groups do not overlap")


def test_scores_that_are_all_alike_are_not_said_to_be_apart() -> None:
    made = models()
    logits = {k: np.zeros_like(v) for k, v in made.base.logits.items()}
    area, _ = loss_attack.measure(made.case, replace(made.base, logits=logits), [])
    assert (area.value, area.low, area.note) == (0.5, None, "all scores are alike")


def test_a_class_is_compared_with_its_own_unseen_samples() -> None:
    made = models("class")
    parts = ("forget", "forgotten")
    loss = [
        cross_entropy(
            tensor(made.base.logits[part]).double(),
            tensor(made.case.labels[part]),
            reduction="none",
        ).numpy()
        for part in parts
    ]
    truth = np.repeat([1, 0], [len(found) for found in loss])
    area, _ = loss_attack.measure(made.case, made.base, [])
    assert area.value == pytest.approx(roc_auc_score(truth, -np.concatenate(loss)))
    assert area.value is not None and area.value > 0.6  # it has seen those to forget
    own = {part: made.base.logits[part] for part in parts}
    others = [replace(r, logits={p: r.logits[p] for p in parts}) for r in made.retrained]
    ours = replace(made.base, logits=own)
    assert rmia.measure(made.case, ours, others)[0].detail == "against 15 test samples"
    labels = {k: v for k, v in made.case.labels.items() if k != "forgotten"}
    for metric in (loss_attack, rmia):
        refused = metric.measure(replace(made.case, labels=labels), made.base, others)
        assert all(row.value is None for row in refused)


def test_rmias_score_is_the_share_of_ratios_that_reach_gamma() -> None:
    # Half of 4 is 2 and reaches 1 and 2; half of 1 reaches nothing.
    population = np.array([1.0, 2.0, 3.0, 5.0])
    assert rmia.scores(np.array([4.0, 1.0, 100.0]), population).tolist() == [0.5, 0.0, 1.0]


def test_rmia_is_its_formula() -> None:
    made = models()
    labels, base, out = made.case.labels, made.base, made.retrained[:2]

    def ratio(part: str, i: int) -> float:
        p = [float(confidence(s.logits[part], labels[part])[i]) for s in (base, *out)]  # type: ignore[index]
        return p[0] / (0.5 * (1.3 * (p[1] + p[2]) / 2 + 0.7))

    order = rmia.drawn(120, 120, 0, "rmia").tolist()
    z = [ratio("attack", i) for i in order[:60]]
    scores = [
        np.mean([ratio(part, i) / other >= 2 for other in z])
        for part, places in (("forget", range(40)), ("attack", order[60:]))
        for i in places
    ]
    expected = roc_auc_score(np.repeat([1, 0], [40, 60]), scores)
    area, _ = rmia.measure(made.case, base, out)
    assert area.value == pytest.approx(expected)
    assert area.value is not None and area.value > 0.5


def test_rmia_needs_two_references() -> None:
    made = models()
    rows = rmia.measure(made.case, made.base, made.retrained[:1])
    assert [row.value for row in rows] == [None, None]
    assert rows[0].reason == "1 retrained model beside it, at least 2 are needed"
