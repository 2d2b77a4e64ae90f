"""What the judges' libraries know by name, without any weights."""

from __future__ import annotations

from typing import Any

from erase.runtime.errors import UserError, nearest


def imagenet() -> tuple[str, ...]:
    """The 1,000 ImageNet names in their usual order."""
    from torchvision.models import ResNet50_Weights

    return tuple(ResNet50_Weights.DEFAULT.meta["categories"])


def torchvision_weights(name: str) -> Any:
    """A classifier's default weights, to be fetched.

    Raises:
        UserError: torchvision has none of that name.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no classifier '{name}'.{nearest(name, known)}")
    return models.get_model_weights(name).DEFAULT


def timm_library(spec: str, name: str) -> Any:
    """timm itself, which knows a model of that name.

    Raises:
        UserError: it does not, or is not installed.
    """
    try:
        import timm
    except ImportError as error:
        raise UserError(
            f"The judge {spec} needs timm: pip install -e '.[timm]' in erase's clone."
        ) from error

    if not timm.is_model(name.split(".")[0]):
        raise UserError(f"timm has no model '{name}'.{nearest(name, timm.list_models())}")
    return timm


def timm_labels(spec: str, name: str) -> tuple[str, ...] | None:
    """The labels of timm's own weights; None where only the weights could tell.

    Raises:
        UserError: see ``timm_library``, or there are no weights.
    """
    config = timm_library(spec, name).get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise UserError(f"timm has no weights for {name}: give a file with timm:{name}@FILE.")
    if config.label_names:
        return tuple(config.label_names)
    return imagenet() if config.num_classes == 1000 else None
