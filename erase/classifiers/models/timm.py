"""Any classifier of timm, such as timm:convnext_tiny; its weights come from a FILE."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from erase.classifiers.models import Shape
from erase.classifiers.models._normalised import Normalised
from erase.runtime.errors import UserError, clipped, nearest

ARCH = "NAME"
MEAN = STD = None


def build(arch: str, shape: Shape) -> nn.Module:
    """See ``classifiers.models``; images are normalised as the architecture's own weights ask,
    grey ones becoming three channels. The names of the state dict are timm's.

    Raises:
        UserError: timm is not installed, or has no such architecture.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(
            "The model timm:NAME needs timm: pip install -e '.[timm]' in erase's clone."
        ) from error
    # Names with a colon would have it look elsewhere.
    if not timm.is_model(arch):
        raise UserError(
            f"timm has no classifier '{clipped(arch)}': give one of its names, such as "
            f"convnext_tiny.{nearest(arch, timm.list_models())}"
        )
    network: nn.Module = timm.create_model(arch, pretrained=False, num_classes=shape.classes)
    usual: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    first = Normalised(usual["mean"], usual["std"])
    network.register_forward_pre_hook(partial(_normalise, first))
    return network


def _normalise(first: Normalised, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    x, *others = inputs
    return (first.to(x.device)(x), *others)
