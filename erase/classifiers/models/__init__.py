"""Classifiers, one module each, found by name: ``NAME``, ``NAME:ARCH`` or ``NAME:ARCH@FILE``.

A module ``erase.classifiers.models.NAME`` offers

    build(arch, shape) -> nn.Module    untrained, giving logits (B, K)
    ARCH                               what ``arch`` is, for messages; empty where none is taken
    MEAN, STD                          subtracted from images in [0, 1] and divided by, one value a
                                       channel; None where the network does so itself

Its first line is what ``erase list models`` tells. Weights come from the FILE: nothing is
downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.modules import names

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Shape:
    """What a network is built for.

    Attributes:
        channels, side: of the images, side in px.
        classes: number K of outputs.
        mean, std: of the training images, one value a channel, in [0, 1]; for networks that
            normalise by themselves.
    """

    channels: int
    side: int
    classes: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network with what it does to its images first.

    Attributes:
        network: gives logits, or an object with ``.logits``.
        classes: number K of its outputs.
        mean, std: subtracted and divided by, one value a channel; None for nothing.
    """

    network: nn.Module
    classes: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def logits(self, x: Tensor) -> Tensor:
        """(B, K) of images (B, C, H, W) in [0, 1].

        Raises:
            UserError: the network returns something else.
        """
        if self.mean is not None and self.std is not None:
            shape = (1, -1, 1, 1)
            x = (x - x.new_tensor(self.mean).view(shape)) / x.new_tensor(self.std).view(shape)
        found = self.network(x)
        found = getattr(found, "logits", found)
        if not isinstance(found, Tensor) or found.shape != (len(x), self.classes):
            shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"The model returns {shown} for {len(x)} images of {self.classes} classes: it must "
                f"return logits of shape ({len(x)}, {self.classes}), or an object that has them as "
                ".logits."
            )
        return found


def list_models() -> list[str]:
    """Names of the ways to name a model."""
    return names(HERE)


def parse_model(spec: str) -> tuple[str, str, Path | None]:
    """A spec's module, architecture and weights file.

    Raises:
        UserError: no such module, or an architecture that is missing or too much.
    """
    head, _, file = spec.partition("@")
    name, _, arch = head.partition(":")
    if name not in list_models():
        raise UserError(
            f"There is no model '{clipped(spec)}': give one of {', '.join(list_models())}."
            f"{nearest(name, list_models())}"
        )
    wanted: str = import_module(f"{__name__}.{name}").ARCH
    if bool(arch) != bool(wanted):
        form = f"{name}:{wanted}[@FILE]" if wanted else f"{name}[@FILE]"
        raise UserError(f"'{clipped(spec)}' does not name a model: write {form}.")
    return name, arch, Path(file) if file else None


def build_model(spec: str, shape: Shape, seed: int = 0) -> Classifier:
    """Builds a model, with the weights of its FILE or, without one, initialised from the seed.

    Raises:
        UserError: it can't be built, or the file is not of this model.
    """
    from erase.formats.tensors import read_tensors
    from erase.runtime.errors import reason

    name, arch, file = parse_model(spec)
    module = import_module(f"{__name__}.{name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = module.build(arch, shape)
    if file is not None:
        try:
            network.load_state_dict(read_tensors(file))
        except RuntimeError as error:
            raise UserError(
                f"{file} does not hold the weights of {name}{':' if arch else ''}{arch} with "
                f"{shape.classes} classes ({reason(error)})."
            ) from error
    return Classifier(network, shape.classes, module.MEAN, module.STD)
