"""The methods, one module each: a ``Config``, what it ``NEEDS``, and ``erase``.

    NEEDS: Needs
    SPACE: what a search varies
    Config: frozen dataclass, each field a flag
    forwards(config, steps, batch): what a training costs
    erase(diffusion, data, config, fit): moves the weights of the denoiser, or of the part that it
        needs, in place

and, where there is something to refuse before the first image,

    check(config, concepts): settings that don't go with so many concepts
    check_memory(config): settings that don't go with --low-memory
    check_model(config, diffusion): settings that don't go with the model
    check_texts(config, diffusion, texts, words): nor with the prompts that it trains on, by what
        they are for, or with the concepts' words
    maker(diffusion, config, word): what makes the images, of a method that guides sampling away
        from a word and leaves the weights as they are

    found(diffusion, data, config): further embedded prompts of the concept, as many rows as ``c``,
        over which the saliency is summed as well

and, where a step's graph is of other rows than one for each image of the roles it trains on,

    rows(config, batch): how many pass through the denoiser with a gradient

and, where a training holds more than the weights, a frozen copy and the optimizer's moments,

    held(config): how many further fp32 copies of the scope's weights
    networks(config): how many further copies of the network whose weights move
    stored(config): and how many a checkpoint holds

A module imports torch inside its functions, so that ``erase --help`` need not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from erase.formats.layouts import Part
from erase.prompts.groups import Role
from erase.runtime.modules import names

if TYPE_CHECKING:
    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

METHODS = Path(__file__).parent
Space = Mapping[str, tuple[float, float] | list[Any]]
"""Settings that ``erase tune`` varies. A list is drawn evenly; a pair (low, high) on a log scale: a
factor on the recipe's value, but of ``steps`` the share of what the budget pays for."""


@dataclass(frozen=True)
class Needs:
    """What a method wants before it starts; settings it has no use for are not offered.

    Attributes:
        images: roles of the images it trains on.
        weighed: the setting of its own that weighs a role's term; at 0 the images are not needed.
        anchor: whether it needs the anchor's prompts c'.
        word: whether it must find the concept's word in its prompts.
        text: what it does to the text of a prompt, as the end of a sentence that begins with its
            name, where it can't do without one; empty where any prompt will do.
        loop: whether it trains step by step; a closed form has neither steps nor a mask.
        scope: the only scope that it can change; None leaves the choice.
        part: what it moves; the masks that are offered are a denoiser's.
        mean: whether its loss is a mean over images, so that processes may share a batch out.
        trains: whether the model is made here; of one from elsewhere, or left as it is, there are
            neither images nor a mask, and nothing is told of what it took.
    """

    images: tuple[Role, ...] = ("forget", "retain")
    weighed: Mapping[Role, str] = field(default_factory=dict)
    anchor: bool = True
    word: bool = False
    text: str = ""
    loop: bool = True
    scope: str | None = None
    part: Part = "denoiser"
    mean: bool = True
    trains: bool = True


class Method(Protocol):
    """A module of this package."""

    NEEDS: Needs
    SPACE: Space
    Config: type[Any]

    @staticmethod
    def forwards(config: Any, steps: int, batch: int) -> float:
        """Images that the denoiser sees in a training, on average over its random draws.

        An image with a gradient counts three times: forward, and twice as much backward.
        """
        ...

    @staticmethod
    def erase(diffusion: Diffusion, data: TrainingData, config: Any, fit: Fit) -> None:
        """Moves the masked weights of its part, in place."""
        ...


def edits(name: str) -> bool:
    """Whether a method changes the model, rather than how images are sampled from it."""
    return not hasattr(load_method(name), "maker")


@cache
def load_method(name: str) -> Method:
    """A method's module by its name, which exists; ``_NAME.py`` is one that no recipe can name."""
    file = name if (METHODS / f"{name}.py").exists() else f"_{name}"
    return cast(Method, import_module(f"erase.methods.{file}"))


def list_methods() -> list[str]:
    """Names of the methods: the modules of ``erase.methods``."""
    return names(METHODS)


def list_unnamed() -> list[str]:
    """What makes models and no recipe can name: the modules ``_NAME``."""
    return sorted(file.stem[1:] for file in METHODS.glob("_[a-z]*.py"))
