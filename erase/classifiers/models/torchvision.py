"""Any classifier of torchvision, such as torchvision:resnet50; its weights come from a FILE."""

from __future__ import annotations

from torch import nn

from erase.classifiers.models import Shape
from erase.classifiers.models._normalised import MEAN, STD
from erase.runtime.errors import UserError, clipped, nearest

ARCH = "ARCH"
__all__ = ["ARCH", "MEAN", "STD", "build"]


def build(arch: str, shape: Shape) -> nn.Module:
    """See ``classifiers.models``; grey images become three channels as they are normalised.

    Raises:
        UserError: no such architecture.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if arch not in known:
        raise UserError(
            f"torchvision has no classifier '{clipped(arch)}': give one of its names, such as "
            f"resnet50.{nearest(arch, known)}"
        )
    # Two architectures draw their weights themselves, slowly, and warn where nothing is said.
    more = {"init_weights": True} if arch in ("googlenet", "inception_v3") else {}
    network: nn.Module = models.get_model(arch, weights=None, num_classes=shape.classes, **more)
    return network
