"""Relearning, against plain SGD, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from erase.eval.classifiers.metrics import relearning
from tests.eval.classifiers.models import models


def test_the_curve_is_that_of_plain_steps_on_retained_batches() -> None:
    made = models()
    assert made.case.pools and made.unlearned.open
    network = made.unlearned.open().network
    pool = replace(made.case.pools["retain"], key=(0, "relearning"))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    forget = made.case.pools["forget"]
    whole = forget.rows(torch.arange(len(forget)))
    expected = {}
    for step in range(51):
        if step in (0, 1, 2, 5, 10, 20, 50):
            with torch.no_grad():
                expected[str(step)] = float((network(whole.x).argmax(1) == whole.y).float().mean())
        batch = pool.at(step)
        optimizer.zero_grad()
        cross_entropy(network(batch.x), batch.y).backward()
        optimizer.step()
    head, *curve = relearning.measure(made.case, made.unlearned, [])
    assert {row.group: row.value for row in curve} == pytest.approx(expected)
    assert head.value == curve[-1].value and head.group == "" and head.n == 40


def test_it_starts_at_what_the_model_gets_right_and_is_the_same_again() -> None:
    made = models("class")
    first = relearning.measure(made.case, made.base, [])
    right = made.base.logits["forget"].argmax(1) == made.case.labels["forget"]
    assert first[1].value == right.mean()
    assert relearning.measure(made.case, made.base, []) == first


def test_without_the_model_it_says_so() -> None:
    made = models()
    [found] = relearning.measure(made.case, replace(made.base, open=None), [])
    assert (found.value, found.reason) == (None, "the model itself is not at hand")
