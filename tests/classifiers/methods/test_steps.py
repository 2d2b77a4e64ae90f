"""Each method's step against one worked out on plain tensors, with a linear model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from erase.classifiers.batches import Batch, Pool
from erase.classifiers.labels import random_labels
from erase.classifiers.methods import (
    l1_sparse,
    list_methods,
    load_method,
    neggrad_plus,
    salun,
    salun_unseen,
    scrub,
    ssd,
)
from erase.classifiers.methods.boundary_shrink import neighbours
from erase.classifiers.models import Classifier
from erase.classifiers.samples import Arrays
from erase.classifiers.unlearning import Unlearning
from erase.runtime.errors import UserError
from erase.unlearn.mask import Mask

K = 3
CPU = torch.device("cpu")


class Linear(nn.Module):
    """Logits W·x + b of 2 × 2 grey images."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.out = nn.Linear(4, K)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x.flatten(1))  # type: ignore[no-any-return]


@dataclass
class Caught:
    """Stands where ``Fit`` does, and keeps what it is given."""

    mask: Mask
    steps: list[Callable[[int, slice], Mapping[str, Tensor]]] = field(default_factory=list)
    solved: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, module: nn.Module, step: Any) -> None:
        self.steps.append(step)

    def assign(self, module: nn.Module, solution: Callable[[str, Tensor], Tensor]) -> None:
        for name, parameter in module.named_parameters():
            self.solved[name] = solution(name, parameter.detach())


def pool(count: int, seed: int, batch: int = 4) -> Pool:
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 2, 2), dtype=torch.uint8, generator=g)
    labels = torch.randint(0, K, (count,), generator=g)
    return Pool(Arrays(pixels, labels), torch.arange(count), labels, batch, (seed,), CPU)


@pytest.fixture
def work() -> Unlearning:
    return Unlearning(pool(4, 1), pool(8, 2), K, 2.0, 0, lambda share: Classifier(Linear(9), K))


def step_of(method: Any, work: Unlearning, **config: Any) -> tuple[Linear, Any]:
    network = Linear()
    fit = Caught(Mask.full(dict(network.named_parameters())))
    method.unlearn(Classifier(network, K), work, method.Config(**config), fit)
    [step] = fit.steps
    return network, step


def x_of(batch: Batch) -> Tensor:
    return batch.x.flatten(1)


def logits(network: Linear, batch: Batch) -> Tensor:
    return x_of(batch) @ network.out.weight.T + network.out.bias


def test_salun_weighs_retained_samples_and_answers_random_labels(work: Unlearning) -> None:
    network, step = step_of(salun, work, alpha=0.5)
    whole = slice(None)
    seen: dict[int, set[int]] = {}
    for index in range(6):  # two passes over 12 samples in batches of 4
        batch = joined_batch(work, index)
        forgotten = batch.place < 4
        drawn = random_labels(work, batch, others=False, redraw=True)
        y = torch.where(forgotten, drawn, batch.y)
        each = cross_entropy(logits(network, batch), y, reduction="none")
        weight = torch.where(forgotten, 1.0, 0.5)
        torch.testing.assert_close(step(index, whole)["loss"], (weight * each).mean())
        for place, turn in zip(batch.place.tolist(), batch.turn.tolist(), strict=True):
            seen.setdefault(turn, set()).add(place)
    assert seen == {0: set(range(12)), 1: set(range(12))}


def joined_batch(work: Unlearning, index: int, in_turn: bool = False) -> Batch:
    from erase.classifiers.batches import joined

    return joined(work.forget, work.retain, (work.seed, "unlearn"), in_turn).at(index)


def test_forget_first_goes_through_the_forgotten_before_the_others(work: Unlearning) -> None:
    places = torch.cat([joined_batch(work, i, in_turn=True).place for i in range(6)]).tolist()
    for turn in (places[:12], places[12:]):
        assert sorted(turn[:4]) == [0, 1, 2, 3] and sorted(turn[4:]) == list(range(4, 12))


def test_labels_of_others_are_never_the_true_one_and_cover_them(work: Unlearning) -> None:
    many = Unlearning(pool(300, 3), pool(8, 2), K, 1.0, 0, work.retrain)
    place = torch.arange(300)
    batch = Batch(torch.empty(300), many.forget.labels, place, torch.zeros(300, dtype=torch.long))
    drawn = random_labels(many, batch, others=True, redraw=False)
    assert not (drawn == many.forget.labels).any()
    counts = torch.stack([(drawn == k).sum() for k in range(K)])
    assert (counts > 60).all()
    every = random_labels(many, batch, others=False, redraw=False)
    assert 60 < int((every == many.forget.labels).sum()) < 140  # a third, as drawn from all
    later = Batch(batch.x, batch.y, place, torch.ones(300, dtype=torch.long))
    assert torch.equal(drawn, random_labels(many, later, others=True, redraw=False))
    assert not torch.equal(drawn, random_labels(many, later, others=True, redraw=True))


def test_unseen_answers_with_a_short_training(work: Unlearning) -> None:
    network, step = step_of(salun_unseen, work, alpha=2.0)
    batch = joined_batch(work, 0)
    forgotten = batch.place < 4
    short = Linear(9)
    p = torch.softmax(logits(short, batch), 1)
    p[~forgotten] = torch.eye(K)[batch.y[~forgotten]]
    each = -(p * log_softmax(logits(network, batch), 1)).sum(1)
    weight = torch.where(forgotten, 1.0, 2.0)
    torch.testing.assert_close(step(0, slice(None))["loss"], (weight * each).mean())


def test_neggrad_plus_goes_down_on_one_and_up_on_the_other(work: Unlearning) -> None:
    network, step = step_of(neggrad_plus, work, beta=0.9)
    r, f = work.retain.at(1), work.forget.at(1)
    expected = 0.9 * cross_entropy(logits(network, r), r.y) - 0.1 * cross_entropy(
        logits(network, f), f.y
    )
    torch.testing.assert_close(step(1, slice(None))["loss"], expected)


def test_l1_falls_by_epoch(work: Unlearning) -> None:
    network, step = step_of(l1_sparse, work, alpha=0.1)
    norm = network.out.weight.abs().sum() + network.out.bias.abs().sum()
    for index, alpha in ((0, 0.1), (1, 0.1), (2, 0.05), (3, 0.05)):  # two steps an epoch of two
        r = work.retain.at(index)
        expected = cross_entropy(logits(network, r), r.y) + alpha * norm
        torch.testing.assert_close(step(index, slice(None))["loss"], expected)


def test_scrub_takes_turns(work: Unlearning) -> None:
    network, step = step_of(scrub, work, max_epochs=1, temperature=2.0, beta=0.5, gamma=0.25)
    teacher = Linear()
    with torch.no_grad():
        for p in network.parameters():
            p += 0.3

    def kl(batch: Batch) -> Tensor:
        p = torch.softmax(logits(teacher, batch) / 2, 1)
        q = torch.softmax(logits(network, batch) / 2, 1)
        return 4 * (p * (p.log() - q.log())).sum(1).mean()

    f = work.forget.at(0)  # one step away, in the first epoch alone
    torch.testing.assert_close(step(0, slice(None))["loss"], -kl(f))
    for index in (1, 2, 3):
        r = work.retain.at(index)
        expected = 0.5 * kl(r) + 0.25 * cross_entropy(logits(network, r), r.y)
        torch.testing.assert_close(step(index, slice(None))["loss"], expected)


def test_scrub_refuses_to_move_away_alone(work: Unlearning) -> None:
    with pytest.raises(UserError, match="only move away"):
        step_of(scrub, replace(work, forget=work.retain), max_epochs=1)


def test_ssd_dampens_what_matters_more_to_the_forgotten(work: Unlearning) -> None:
    network = Linear()
    fit = Caught(Mask.full(dict(network.named_parameters())))
    ssd.unlearn(Classifier(network, K), work, ssd.Config(alpha=1.2, lam=0.5), fit)  # type: ignore[arg-type]

    def squares(own: Pool) -> list[dict[str, Tensor]]:
        found = []
        for n in range(len(own)):
            batch = own.rows(torch.tensor([n]))
            network.zero_grad()
            cross_entropy(logits(network, batch), batch.y).backward()
            grads = {k: p.grad for k, p in network.named_parameters()}
            found.append({k: g.square().clone() for k, g in grads.items() if g is not None})
        return found

    forgotten, kept = squares(work.forget), squares(work.retain)
    moved = 0
    for name, theta in network.named_parameters():
        f_f = sum(s[name] for s in forgotten) / 4
        f = sum(s[name] for s in [*forgotten, *kept]) / 12
        expected = theta.detach().clone()
        for place in range(theta.numel()):
            a, b = float(f_f.view(-1)[place]), float(f.view(-1)[place])  # type: ignore[union-attr]
            if a > 1.2 * b:
                expected.view(-1)[place] *= min(0.5 * b / a, 1.0)
                moved += 1
        torch.testing.assert_close(fit.solved[name], expected)
    assert 0 < moved < 15


def test_ssd_in_less_memory_finds_the_same(
    work: Unlearning, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ssd.importance(Classifier(Linear(), K), [work.retain])
    monkeypatch.setattr(ssd, "AT_ONCE", 1)  # one sample at a time
    for name, value in ssd.importance(Classifier(Linear(), K), [work.retain]).items():
        torch.testing.assert_close(value, whole[name])


def test_boundary_neighbours_are_what_the_step_leads_to() -> None:
    own, network = pool(20, 5), Linear()
    found = neighbours(Classifier(network, K), own, 0.4)
    batch = own.rows(torch.arange(20))
    x = x_of(batch)
    # Of a linear model, the gradient of the loss in x is (p - onehot) W.
    p = torch.softmax(logits(network, batch), 1) - torch.eye(K)[batch.y]
    moved = x + 0.4 * (p @ network.out.weight).sign()
    expected = (moved @ network.out.weight.T + network.out.bias).argmax(1)
    assert torch.equal(found, expected)
    assert not torch.equal(found, logits(network, batch).argmax(1))


@pytest.mark.parametrize("name", list_methods())
def test_a_space_is_of_the_methods_own_settings(name: str) -> None:
    from erase.recipes.classifier import flags

    method = load_method(name)
    assert method.SPACE.keys() <= {flag.name for flag in flags(name)}
    assert method.samples(method.Config(), 10, 90) >= 0
