"""Small networks that were trained, retrained and made to forget, with what they answer."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from erase.classifiers.batches import Pool
from erase.classifiers.models import Classifier
from erase.classifiers.samples import Arrays
from erase.eval.classifiers.evidence import Case, Part, Side
from tests.eval.classifiers.answers import Models

CLASSES = ("square", "disc", "star", "cross")
SIDE = 8
SIZES: dict[Part, int] = {"forget": 40, "retain": 160, "test": 120, "attack": 120}


def network(seed: int) -> nn.Module:
    """With a penultimate layer of 24 features."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, 24), nn.ReLU(), nn.Linear(24, len(CLASSES))
    )


def trained(model: nn.Module, x: Tensor, y: Tensor, steps: int, lr: float = 0.1) -> nn.Module:
    """The network after full-batch steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def pool(labels: Tensor, numbers: Tensor, samples: Arrays) -> Pool:
    """Batches of 20."""
    return Pool(samples, numbers, labels, 20, (0, "test"), torch.device("cpu"))


@cache
def models(kind: str = "random", retrained: int = 3) -> Models:
    """Trained in a second on noisy patterns, a class of which is ``star``."""
    drawn = torch.Generator().manual_seed(0)
    patterns = torch.rand(len(CLASSES), 1, SIDE, SIDE, generator=drawn)
    count = sum(SIZES.values())
    labels = torch.arange(count) % len(CLASSES)
    noise = torch.rand(count, 1, SIDE, SIDE, generator=drawn)
    pixels = (255 * (0.25 * patterns[labels] + 0.75 * noise)).to(torch.uint8)
    samples = Arrays(pixels, labels)
    parts = _parts(kind, labels)
    x, y = samples.images(torch.arange(count)), labels

    def side(name: str, model: nn.Module, samples: float, seconds: float) -> Side:
        with torch.no_grad():
            logits: dict[Part, NDArray[np.float32]] = {
                part: model(x[numbers]).numpy() for part, numbers in parts.items()
            }
        return Side(
            name, logits, lambda: Classifier(deepcopy(model), len(CLASSES)), samples, seconds
        )

    own = torch.cat([parts["forget"], parts["retain"]])
    kept, gone = parts["retain"], parts["forget"]
    base = trained(network(0), x[own], y[own], 150)
    wrong = y.clone()
    wrong[gone] = torch.randint(0, len(CLASSES), (len(gone),), generator=drawn)
    unlearned = trained(deepcopy(base), x[own], wrong[own], 12, 0.05)
    others = [trained(network(s), x[kept], y[kept], 150) for s in range(1, retrained + 1)]
    case = Case(
        kind=kind,
        classes=CLASSES,
        labels={part: labels[numbers].numpy() for part, numbers in parts.items()},
        forgotten=CLASSES.index("star") if kind == "class" else None,
        pools={part: pool(labels[numbers], numbers, samples) for part, numbers in parts.items()},
    )
    return Models(
        case,
        side("base", base, 90_000, 10.0),
        side("unlearned", unlearned, 7_200, 1.0),
        tuple(side(f"retrain-{n}", model, 72_000, 8.0) for n, model in enumerate(others, start=1)),
    )


def _parts(kind: str, labels: Tensor) -> dict[Part, Tensor]:
    """Numbers of the samples, the forgotten class's in ``forget`` and ``forgotten`` alone."""
    ends = np.cumsum(list(SIZES.values()))
    cut = torch.arange(len(labels)).tensor_split(torch.tensor(ends[:-1]))
    parts: dict[Part, Tensor] = dict(zip(SIZES, cut, strict=True))
    if kind != "class":
        return parts
    star = CLASSES.index("star")
    own = torch.cat([parts["forget"], parts["retain"]])
    unseen: dict[Part, Tensor] = {
        part: parts[part][labels[parts[part]] != star] for part in ("test", "attack")
    }
    return {
        "forget": own[labels[own] == star],
        "retain": own[labels[own] != star],
        **unseen,
        "forgotten": parts["test"][labels[parts["test"]] == star],
    }
