"""``erase.unlearn_classifier`` on a model and data sets of one's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import erase
from erase.runtime.errors import UserError


@pytest.fixture
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """A network that knows 100 samples by heart."""
    torch.manual_seed(0)
    x = torch.rand(100, 1, 4, 4)
    y = (x.mean((1, 2, 3)) * 40).long() % 4
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval(), x, y


def test_a_model_forgets_in_place_and_keeps_its_mode(trained: Any) -> None:
    model, x, y = trained
    forget, retain = TensorDataset(x[:10], y[:10]), TensorDataset(x[10:], y[10:])
    before = cross_entropy(model(x[:10]), y[:10])
    same = erase.unlearn_classifier(model, retain, forget, recipe="salun", lr=0.05, epochs=20)
    assert same is model and not model.training
    after, kept = cross_entropy(model(x[:10]), y[:10]), cross_entropy(model(x[10:]), y[10:])
    assert after > before + 0.2 and kept < after / 2


def test_an_object_with_logits_will_do_and_anything_else_is_refused(trained: Any) -> None:
    model, x, y = trained

    class Wrapped(nn.Module):
        def __init__(self, answer: Any) -> None:
            super().__init__()
            self.inner, self.answer = model, answer

        def forward(self, x: Tensor) -> Any:
            return self.answer(self.inner(x))

    forget, retain = TensorDataset(x[:10], y[:10]), TensorDataset(x[10:], y[10:])
    named = Wrapped(lambda logits: SimpleNamespace(logits=logits))
    assert erase.unlearn_classifier(named, retain, forget, recipe="ssd") is named
    with pytest.raises(UserError, match=r"returns \(1, 1, 4\) for one sample"):
        erase.unlearn_classifier(Wrapped(lambda logits: logits[None]), retain, forget)


def test_what_the_caller_had_set_stays(trained: Any) -> None:
    model, x, y = trained
    forget, retain = TensorDataset(x[:10], y[:10]), TensorDataset(x[10:], y[10:])
    model[1].requires_grad_(False)  # a frozen backbone
    before = {name: p.clone() for name, p in model.named_parameters()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    erase.unlearn_classifier(model, retain, forget, recipe="salun", lr=0.05, epochs=5)
    assert torch.equal(torch.rand(3), expected)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"3.weight", "3.bias"}
    wanted = {name: p.requires_grad for name, p in model.named_parameters()}
    assert wanted == {"1.weight": False, "1.bias": False, "3.weight": True, "3.bias": True}
    model.requires_grad_(False)
    with pytest.raises(UserError, match="Every weight is frozen"):
        erase.unlearn_classifier(model, retain, forget)
    model.requires_grad_(True).train()
    with pytest.raises(UserError, match="can't take a sample"):
        erase.unlearn_classifier(model, TensorDataset(x[:, :, :2], y), forget)
    assert model.training and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("recipe", ["retrain", "salun-unseen"])
def test_a_network_trained_anew_keeps_the_frozen_backbone(recipe: str) -> None:
    torch.manual_seed(0)
    x = torch.rand(60, 1, 4, 4)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.BatchNorm1d(32), nn.ReLU())
    for _ in range(50):
        backbone(x)  # its statistics settle
    backbone.eval().requires_grad_(False)
    found = backbone(x) @ torch.randn(32)
    y = (found > found.median()).long()
    model = nn.Sequential(backbone, nn.Linear(32, 2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    forget, retain = TensorDataset(x[:10], y[:10]), TensorDataset(x[10:], y[10:])
    erase.unlearn_classifier(model, retain, forget, recipe=recipe)
    moved = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert "1.weight" in moved and moved <= {"1.weight", "1.bias"}
    if recipe == "retrain":
        # A new head on the old features knows what it was trained on.
        assert (model.eval()(x[10:]).argmax(1) == y[10:]).float().mean() > 0.8


def test_a_refusal_on_the_way_puts_the_weights_back(trained: Any) -> None:
    model, x, y = trained
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UserError, match="not finite"):
        erase.unlearn_classifier(
            model, TensorDataset(x[10:], y[10:]), TensorDataset(x[:10], y[:10]), lr=1e9
        )
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items())


def test_labels_that_the_model_does_not_know_are_refused(trained: Any) -> None:
    model, x, y = trained
    forget, retain = TensorDataset(x[:10], y[:10] + 4), TensorDataset(x[10:], y[10:])
    with pytest.raises(UserError, match="forget set has labels from . to ., but the model has 4"):
        erase.unlearn_classifier(model, retain, forget)
    with pytest.raises(UserError, match=r"whole-number labels \(.*is none\)"):
        erase.unlearn_classifier(model, retain, TensorDataset(x[:10], y[:10] + 0.7))
    with pytest.raises(UserError, match="can't take a sample of the forget set"):
        erase.unlearn_classifier(model, retain, TensorDataset(x[:10].double(), y[:10]))
    for seed, told in ((-1, "negative"), (1.5, "whole number")):
        with pytest.raises(UserError, match=told):
            erase.unlearn_classifier(model, retain, TensorDataset(x[:10], y[:10]), seed=seed)
    with pytest.raises(UserError, match="data set is empty"):
        erase.unlearn_classifier(model, retain, TensorDataset(x[:0], y[:0]))
