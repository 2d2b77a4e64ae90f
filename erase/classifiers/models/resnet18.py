"""ResNet-18 as it is usual for CIFAR: a 3 x 3 convolution first and no pooling after it."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from erase.classifiers.models import Shape
from erase.classifiers.models._normalised import Normalised

ARCH = ""
MEAN = STD = None


class _Small(ResNet):  # type: ignore[misc]
    """torchvision's names, and its weights but for the first convolution's."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(BasicBlock, [2, 2, 2, 2], num_classes=shape.classes)
        self.conv1 = nn.Conv2d(shape.channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.maxpool = nn.Identity()
        self.normalize = Normalised(shape.mean, shape.std)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = super().forward(self.normalize(x))
        return logits


def build(arch: str, shape: Shape) -> nn.Module:
    """See ``classifiers.models``; He et al., arXiv 1512.03385."""
    return _Small(shape)
