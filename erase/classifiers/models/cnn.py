"""A small network for images of 8 to 64 px: two convolutions and two layers on top, GroupNorm."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from erase.classifiers.models import Shape
from erase.classifiers.models._normalised import Normalised
from erase.runtime.errors import UserError

ARCH = ""
MEAN = STD = None
SIDES = (8, 64)
STRIDED = 32
"""Larger images, in px, are halved by the first convolution."""
GROUPS = 4


def build(arch: str, shape: Shape) -> nn.Module:
    """See ``classifiers.models``; 0.41 M weights for grey images of 28 px and ten classes.

    Raises:
        UserError: images that are smaller or larger.
    """
    if not SIDES[0] <= shape.side <= SIDES[1]:
        raise UserError(
            f"cnn takes images of {SIDES[0]} to {SIDES[1]} px, not of {shape.side}: give images of "
            "another size or another --model, such as resnet18."
        )
    stride = 2 if shape.side > STRIDED else 1
    side = (shape.side + stride - 1) // stride // 2 // 2
    return nn.Sequential(
        OrderedDict(
            normalize=Normalised(shape.mean, shape.std),
            conv1=nn.Conv2d(shape.channels, 16, 3, stride, padding=1),
            norm1=nn.GroupNorm(GROUPS, 16),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(16, 32, 3, padding=1),
            norm2=nn.GroupNorm(GROUPS, 32),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(32 * side * side, 256),
            relu3=nn.ReLU(),
            fc2=nn.Linear(256, shape.classes),
        )
    )
