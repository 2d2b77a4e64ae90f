"""Training and unlearning: masks, running statistics, and bits whatever interrupts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from erase.classifiers import fitting
from erase.classifiers.batches import Pool
from erase.classifiers.models import Classifier
from erase.classifiers.samples import Arrays
from erase.classifiers.training import Training
from erase.classifiers.unlearning import Unlearning
from erase.recipes.classifier import ClassifierRecipe, load_recipe
from erase.runtime.devices import accelerator
from erase.unlearn.mask import Mask

CPU = torch.device("cpu")
K = 3


class Residual(nn.Module):
    """A block with a shortcut and BatchNorm, and dropout before the logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv, self.norm2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop, self.out = nn.Dropout(0.2), nn.Linear(4, K)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.norm(self.stem(x)))
        h = torch.relu(h + self.norm2(self.conv(h)))
        return self.out(self.drop(h.mean((2, 3))))  # type: ignore[no-any-return]


def pool(count: int, seed: int, batch: int = 6) -> Pool:
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 6, 6), dtype=torch.uint8, generator=g)
    labels = torch.randint(0, K, (count,), generator=g)
    return Pool(Arrays(pixels, labels), torch.arange(count), labels, batch, (seed,), CPU)


@pytest.fixture(scope="module")
def base() -> Residual:
    network = Residual()
    for _ in range(3):
        network.train()(pool(30, 7).rows(torch.arange(30)).x)
    return network.eval()


def acc() -> Any:
    return accelerator("cpu", "fp32", False)


def recipe(name: str = "salun", **more: Any) -> ClassifierRecipe:
    return load_recipe(name, {"epochs": 2.0, "batch_size": 6, "lr": 0.05, **more})


def work() -> Unlearning:
    return Unlearning(pool(6, 1), pool(12, 2), K, 2.0, 0, lambda share: Classifier(Residual(), K))


def test_saliency_and_mask_equal_plain_autograd_in_evaluation_mode(base: Residual) -> None:
    forget = pool(11, 3, batch=4)
    mask = fitting.saliency_mask(Classifier(base, K), forget, recipe(ratio=0.3), 0, {})
    plain = copy.deepcopy(base)
    batch = forget.rows(torch.arange(11))
    (-cross_entropy(plain(batch.x), batch.y, reduction="sum")).backward()
    grads = torch.cat([p.grad.abs().flatten() for p in plain.parameters() if p.grad is not None])
    k = int(0.3 * len(grads))
    chosen = torch.zeros(len(grads), dtype=torch.bool)
    chosen[grads.argsort(descending=True, stable=True)[:k]] = True
    found = torch.cat([mask.dense(n).flatten() for n, _ in base.named_parameters()])
    assert mask.count == k and int((found != chosen).sum()) <= 2  # sums in another order
    assert torch.equal(base.norm.running_mean, plain.norm.running_mean)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_masked_weights_alone_move(optimizer: str, base: Residual, tmp_path: Path) -> None:
    own = recipe(optimizer=optimizer, weight_decay=0.1)
    network = copy.deepcopy(base)
    mask = fitting.saliency_mask(Classifier(base, K), pool(6, 1), own, 0, {})
    fitting.unlearn(Classifier(network, K), work(), own, mask, tmp_path, "k", acc())
    moved = 0
    for name, before in base.named_parameters():
        after, chosen = dict(network.named_parameters())[name], mask.dense(name)
        assert torch.equal(before[~chosen], after[~chosen])
        moved += int((before != after).sum())
    assert moved > mask.count / 2
    for name, buffer in base.named_buffers():
        assert torch.equal(buffer, dict(network.named_buffers())[name])


def test_running_statistics_move_where_they_are_let(base: Residual, tmp_path: Path) -> None:
    for batchnorm, mask_kind, moves in (
        ("auto", "none", True),
        ("frozen", "none", False),
        ("moving", "saliency", True),
    ):
        own = recipe(mask=mask_kind, batchnorm=batchnorm)
        network = copy.deepcopy(base)
        mask = fitting.saliency_mask(Classifier(base, K), pool(6, 1), own, 0, {})
        place = tmp_path / f"{batchnorm}-{mask_kind}"
        fitting.unlearn(Classifier(network, K), work(), own, mask, place, "k", acc())
        assert moves != torch.equal(base.norm.running_mean, network.norm.running_mean)


class Stopped(Exception):
    pass


@pytest.mark.parametrize("name", ["salun", "random-label"])
def test_an_interrupted_run_ends_with_the_same_bits(
    name: str, base: Residual, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = recipe(name, batchnorm="moving")
    mask = fitting.saliency_mask(Classifier(base, K), pool(6, 1), own, 0, {})

    def run(folder: Path, stop: int | None) -> Residual:
        network = copy.deepcopy(base)
        data = work()
        if stop is not None:
            plain = Pool.at

            def at(self: Pool, index: int, part: slice = slice(None)) -> Any:
                if index == stop:
                    raise Stopped
                return plain(self, index, part)

            with monkeypatch.context() as patch:
                patch.setattr(Pool, "at", at)
                with pytest.raises(Stopped):
                    fitting.unlearn(Classifier(network, K), data, own, mask, folder, "k", acc())
            network = copy.deepcopy(base)
        fitting.unlearn(Classifier(network, K), data, own, mask, folder, "k", acc())
        return network

    whole, resumed = run(tmp_path / "a", None), run(tmp_path / "b", 4)
    for (name_, a), b in zip(
        whole.state_dict().items(), resumed.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name_


def test_training_learns(tmp_path: Path) -> None:
    network, own = Residual(), pool(12, 4)
    own.samples.pixels[own.labels == 0] //= 4  # type: ignore[attr-defined]
    made = Training(epochs=30, lr=0.05, batch=6)

    def loss() -> float:
        batch = own.rows(torch.arange(12))
        return float(cross_entropy(network.eval()(batch.x), batch.y))

    before = loss()
    fitting.train(Classifier(network, K), own, made, tmp_path, "k", acc())
    assert loss() < 0.8 * before and not network.training
    full = Mask.full(dict(network.named_parameters()))
    assert full.count == sum(p.numel() for p in network.parameters())
