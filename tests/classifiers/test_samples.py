"""Labelled images: their moments, their digest, and data that do not fit together."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from erase.classifiers.samples import LOOKED_AT, Arrays, Data, wrapped
from erase.runtime.errors import UserError


def arrays(labels: list[int], channels: int = 3) -> Arrays:
    shape = (len(labels), channels, 4, 4)
    drawn = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(len(labels)))
    return Arrays(drawn.to(torch.uint8), torch.tensor(labels, dtype=torch.int64))


DATA = Data("two", arrays([0, 1] * 100), arrays([0, 1, 1]), ("a", "b"))


def test_moments_are_those_of_the_training_images() -> None:
    x = DATA.train.images(torch.arange(200))
    mean, std = DATA.moments()
    assert mean == pytest.approx(x.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert std == pytest.approx(x.std((0, 2, 3), correction=0).tolist(), abs=1e-6)
    assert DATA.shape() == (3, 4)


def test_moments_look_at_some_thousands_from_first_to_last() -> None:
    count = 4 * LOOKED_AT
    pixels = torch.zeros(count, 1, 1, 1, dtype=torch.uint8)
    pixels[count // 2 :] = 255  # in order of their classes, as a folder's are
    labels = torch.arange(count) // (count // 2)
    data = Data("sorted", Arrays(pixels, labels), arrays([0, 1], 1), ("a", "b"))
    assert data.moments() == ((0.5,), (0.5,))


def test_images_of_one_shade_can_be_divided_by_their_deviation() -> None:
    flat = Arrays(torch.full((4, 1, 2, 2), 51, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    mean, std = Data("flat", flat, arrays([0, 1], 1), ("a", "b")).moments()
    assert mean == pytest.approx((0.2,)) and std == (1 / 255,)


def test_the_digest_is_that_of_images_labels_and_names() -> None:
    same = Data("else", arrays([0, 1] * 100), arrays([0, 1, 1]), ("a", "b"))
    assert same.digest() == DATA.digest()
    others = [
        replace(DATA, train=arrays([1, 0] * 100)),
        replace(DATA, test=arrays([0, 1, 0])),
        replace(DATA, classes=("b", "a")),
        replace(DATA, test=Arrays(255 - arrays([0, 1, 1]).pixels, torch.tensor([0, 1, 1]))),
    ]
    assert len({DATA.digest(), *(data.digest() for data in others)}) == 5


@pytest.mark.parametrize(
    ("train", "test", "classes", "told"),
    [
        ([0, 1], [0], ("a",), "two or more"),
        ([0, 1], [0], ("a", "a"), "a name of its own"),
        ([0, 1], [0, 2], ("a", "b"), "A test sample of x has the label 2, but there are 2 classes"),
        ([0, -1], [0], ("a", "b"), "A training sample of x has the label -1"),
        ([], [0], ("a", "b"), "x has no training samples"),
        ([0, 1], [], ("a", "b"), "x has no test samples"),
    ],
)
def test_data_that_do_not_fit_together_are_refused(
    train: list[int], test: list[int], classes: tuple[str, ...], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        Data("x", arrays(train), arrays(test), classes)


def test_any_data_set_of_pairs_is_wrapped() -> None:
    found = wrapped(torch.utils.data.TensorDataset(torch.rand(5, 1, 2, 2), torch.arange(5)))
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.images(torch.tensor([3, 0])).shape == (2, 1, 2, 2)
    for bad in ([], [1.5], [(torch.zeros(1), "cat")]):
        with pytest.raises(UserError):
            wrapped(bad)
