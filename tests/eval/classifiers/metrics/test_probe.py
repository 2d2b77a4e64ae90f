"""The linear probe, and the features it is given."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from erase.classifiers.models import Classifier
from erase.eval.classifiers.evidence import drawn
from erase.eval.classifiers.features import features
from erase.eval.classifiers.metrics import probe
from tests.eval.classifiers.models import CLASSES, models, network


@dataclass
class Output:
    logits: Tensor


class Wrapped(nn.Module):
    """Returns an object with ``.logits``, and owns a linear layer that it calls first."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.last, self.inner = nn.Linear(1, 1), inner

    def forward(self, x: Tensor) -> Output:
        self.last(x[:, :1, :1, 0])
        return Output(self.inner(x))


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_features_are_the_input_of_the_last_layer(wrapped: bool) -> None:
    made = models()
    assert made.case.pools
    inner = network(0).eval()
    model = Wrapped(inner) if wrapped else inner
    pool = made.case.pools["forget"]
    found = features(Classifier(model, len(CLASSES)), pool)
    with torch.no_grad():
        expected = cast(nn.Sequential, inner)[:3](pool.rows(torch.arange(len(pool))).x).numpy()
    assert found is not None and np.array_equal(found, expected)
    assert not any(m._forward_hooks for m in model.modules())


def test_a_network_that_does_not_end_in_one_is_refused() -> None:
    made = models()
    assert made.case.pools
    scaled = nn.Sequential(network(0), nn.Softmax(1)).eval()
    side = replace(made.base, open=lambda: Classifier(scaled, len(CLASSES)))
    [found] = probe.measure(made.case, side, [])
    assert (found.value, found.reason) == (None, "the network does not end in a linear layer")


def test_it_is_logistic_regression_on_half_of_the_samples() -> None:
    made = models()
    assert made.case.pools and made.base.open
    rows, labels = {}, {}
    for part in ("forget", "retain"):
        pool = made.case.pools[part]
        order = drawn(len(pool), len(pool), 0, "probe", part)
        own = features(made.base.open(), pool)
        assert own is not None
        rows[part], labels[part] = own[order], pool.labels.numpy()[order]
    x = np.concatenate([rows["forget"][:20], rows["retain"]])
    y = np.concatenate([labels["forget"][:20], labels["retain"]])
    mean, scale = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1)
    fitted = LogisticRegression(max_iter=2000).fit((x - mean) / scale, y)
    expected = fitted.score((rows["forget"][20:] - mean) / scale, labels["forget"][20:])
    [found] = probe.measure(made.case, made.base, [])
    assert found.value == pytest.approx(expected) and found.n == 20


def test_a_model_whose_last_layer_alone_was_changed_is_found_out() -> None:
    made = models("class")
    assert made.base.open
    model = made.base.open()
    hidden = deepcopy(model.network)
    last = cast(nn.Linear, cast(nn.Sequential, hidden)[-1])
    with torch.no_grad():
        last.bias[CLASSES.index("star")] = -1000.0
    side = replace(made.base, open=lambda: Classifier(hidden, len(CLASSES)))
    [found] = probe.measure(made.case, side, [])
    [retrained] = probe.measure(made.case, made.retrained[0], [])
    assert found.value is not None and retrained.value is not None
    assert found.value > 0.9 > retrained.value
