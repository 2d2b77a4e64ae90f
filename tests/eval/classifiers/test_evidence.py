"""Margins of logits."""

from __future__ import annotations

import numpy as np
import pytest

from erase.eval.classifiers.evidence import confidence, drawn, margin


def test_the_margin_is_the_logit_of_the_confidence() -> None:
    logits = np.random.default_rng(0).normal(0, 2, (50, 5)).astype(np.float32)
    labels = np.arange(50) % 5
    p = confidence(logits, labels)
    assert margin(logits, labels) == pytest.approx(np.log(p / (1 - p)))


def test_it_tells_apart_what_the_confidence_does_not() -> None:
    logits = np.array([[60.0, 0.0], [50.0, 0.0]], dtype=np.float32)
    labels = np.array([0, 0])
    assert confidence(logits, labels).tolist() == [1.0, 1.0]
    assert margin(logits, labels).tolist() == [60.0, 50.0]


def test_a_draw_is_the_keys_alone() -> None:
    assert drawn(100, 10, 0, "a").tolist() == drawn(100, 10, 0, "a").tolist()
    assert drawn(100, 10, 0, "a").tolist() != drawn(100, 10, 1, "a").tolist()
    assert sorted(drawn(5, 10, 0).tolist()) == [0, 1, 2, 3, 4]
