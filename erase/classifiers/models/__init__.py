"""Classifiers, one module each, found by name: ``NAME``, ``NAME:ARCH`` or ``NAME:ARCH@FILE``.

A module ``erase.classifiers.models.NAME`` offers

    build(arch, shape) -> nn.Module    untrained, giving logits (B, K)
    ARCH                               what ``arch`` is, for messages; empty where none is taken
    MEAN, STD                          subtracted from images in [0, 1] and divided by, one value a
                                       channel; None where the network does so itself
    source(arch) -> Path | None        where ``arch`` is code of the user's, the file of it

Its first line is what ``erase list models`` tells. Weights come from the FILE: nothing is
downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from erase.runtime.errors import UserError, clipped, few, nearest, reason
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
        UserError: no such module, an architecture that is missing or too much, or no such file.
    """
    head, at, place = spec.partition("@")
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
    if not at:
        return name, arch, None
    file = Path(place).expanduser()
    if not file.is_file():
        raise UserError(
            f"There is no file '{clipped(place)}' with the weights of '{clipped(head)}': give one "
            "of tensors, .safetensors or .pth."
        )
    return name, arch, file


def source_of(spec: str) -> Path | None:
    """The file of the user's own code that builds a model; None for one that comes with a library.

    Raises:
        UserError: see ``parse_model``, or the code can't be imported.
    """
    name, arch, _ = parse_model(spec)
    find = getattr(import_module(f"{__name__}.{name}"), "source", None)
    return find(arch) if find else None


def build_model(spec: str, shape: Shape, seed: int = 0) -> Classifier:
    """Builds a model, with the weights of its FILE or, without one, initialised from the seed.

    Raises:
        UserError: it can't be built, the file is not of this model, or it can't take such images.
    """
    from erase.formats.tensors import read_tensors

    name, arch, file = parse_model(spec)
    module = import_module(f"{__name__}.{name}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network: nn.Module = module.build(arch, shape)
        if file is not None:
            state = read_tensors(file)
            if problem := _misfit(state, network.state_dict()):
                raise UserError(
                    f"{file} does not hold the weights of {spec.partition('@')[0]} with "
                    f"{shape.classes} classes ({problem}): give the file of such a model."
                )
            network.load_state_dict(state)
        classifier = Classifier(network, shape.classes, module.MEAN, module.STD)
        _try(classifier, spec, shape)
    return classifier


def _misfit(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What keeps a file's tensors from a network; empty where nothing does."""
    if missing := [name for name in own if name not in state]:
        return f"it lacks {few(missing)}"
    if others := [name for name in state if name not in own]:
        return f"it has {few(others)} too much"
    for name, value in own.items():
        if state[name].shape != value.shape:
            return f"'{name}' is {tuple(state[name].shape)} instead of {tuple(value.shape)}"
    return ""


@torch.no_grad()
def _try(classifier: Classifier, spec: str, shape: Shape) -> None:
    """Shows it two black images.

    Raises:
        UserError: it can't take them, or returns something else than logits.
    """
    training = {m: m.training for m in classifier.network.modules()}
    classifier.network.eval()
    try:
        classifier.logits(torch.zeros(2, shape.channels, shape.side, shape.side))
    except UserError:
        raise
    except Exception as error:  # whatever a network raises that is not made for such images
        raise UserError(
            f"'{clipped(spec)}' can't take images of {shape.channels} x {shape.side} x "
            f"{shape.side} ({reason(error)}): give other images or another model."
        ) from error
    finally:
        for module, was in training.items():
            module.training = was
