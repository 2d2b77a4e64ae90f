"""The drawn world as a data set."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from erase.classifiers.data import load_data, mini
from erase.classifiers.split import make_split
from erase.mini import world
from erase.runtime.errors import UserError


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mini, "TRAIN", 2)
    monkeypatch.setattr(mini, "TEST", 1)


def test_each_object_is_drawn_in_each_style() -> None:
    found = load_data("mini")
    assert found.classes == world.OBJECT_LABELS and found.shape() == (3, 32)
    assert list(found.axes) == ["object", "style"]
    thing, style = found.axes["object"], found.axes["style"]
    assert torch.equal(thing.train, found.train.labels) and thing.names == found.classes
    cells = torch.stack([thing.train, style.train], 1).unique(dim=0, return_counts=True)
    assert len(cells[0]) == 12 * 4 and cells[1].tolist() == [2] * 48
    assert len(found.test.labels) == len(thing.test) == len(style.test) == 48


def test_images_are_the_worlds_at_half_their_size() -> None:
    found = load_data("mini")
    church, ink = world.OBJECT_LABELS.index("church"), world.STYLE_LABELS.index("ink")
    for samples, split, each in ((found.train, "generator", 2), (found.test, "heldout", 1)):
        number = (4 * church + ink) * each
        large = world.render("church", "ink", 0, "generator" if each == 2 else "heldout")
        mean = sum(large[i::2, j::2].astype(float) for i in (0, 1) for j in (0, 1)) / 4
        x = samples.images(torch.tensor([number]))[0].permute(1, 2, 0).numpy() * 255
        assert np.abs(x - mean).max() <= 0.5 + 1e-4, split


def test_labels_may_be_styles() -> None:
    by_object, by_style = load_data("mini"), load_data("mini@style")
    assert by_style.classes == world.STYLE_LABELS and list(by_style.axes) == ["style", "object"]
    assert torch.equal(by_style.train.labels, by_object.axes["style"].train)
    assert by_style.digest() != by_object.digest() == load_data("mini@object").digest()
    with pytest.raises(UserError, match="mini is not labelled by 'stile'.* Did you mean 'style'"):
        load_data("mini@stile")


def test_an_object_in_one_style_can_be_forgotten() -> None:
    for spec in ("mini", "mini@style"):
        data = load_data(spec)
        found = make_split(data, "cell:church/ink", validation=0.0)
        own = [
            {axis.names[int(axis.train[n])] for n in found.forget} for axis in data.axes.values()
        ]
        assert len(found.forget) == 2 and sorted(map(str, own)) == ["{'church'}", "{'ink'}"]
