"""Data and models are one file each: dropped into a copy of the package, they are found."""

from __future__ import annotations

from pathlib import Path

from tests.dropped_in import copy_with, run_code

STRIPES = '''
"""Stripes, upright or level."""

import torch

from erase.classifiers.samples import Arrays, Data
from erase.classifiers.training import Training

PLACE = "side"


def read(place):
    side = int(place or 8)
    level = torch.zeros(10, 1, side, side, dtype=torch.uint8)
    level[:, :, ::2] = 255
    own = Arrays(torch.cat([level, level.transpose(2, 3)]), torch.arange(20) // 10)
    return Data("level-stripes", own, own, ("level", "upright"), training=Training(epochs=1))
'''
LINEAR = '''
"""One layer."""

from torch import nn

ARCH = ""
MEAN, STD = (0.5,), (0.5,)


def build(arch, shape):
    size = shape.channels * shape.side**2
    return nn.Sequential(nn.Flatten(), nn.Linear(size, shape.classes))
'''
SCRIPT = """
import torch
from erase.classifiers.data import list_data, load_data
from erase.classifiers.models import Shape, build_model, list_models
from erase.classifiers.split import make_split

print("level-stripes" in list_data(), "linear" in list_models())
data = load_data("level-stripes@12")
split = make_split(data, "class:upright", validation=0.0)
shape = Shape(*data.shape(), len(data.classes), *data.moments())
model = build_model("linear", shape)
print(tuple(model.logits(data.train.images(torch.tensor(split.forget))).shape), model.mean)
"""


def test_new_data_and_a_new_model_are_one_file_each(tmp_path: Path) -> None:
    folder = copy_with(tmp_path, "classifiers/data/level_stripes.py", STRIPES)
    (folder / "erase" / "classifiers" / "models" / "linear.py").write_text(LINEAR)
    assert run_code(folder, SCRIPT).splitlines() == ["True True", "(10, 2) (0.5,)"]
