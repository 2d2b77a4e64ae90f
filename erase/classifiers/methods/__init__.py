"""The methods, one module each: a ``Config``, what it ``NEEDS``, and ``unlearn``.

    NEEDS: Needs
    SPACE: what a search varies, see ``Space``
    Config: frozen dataclass, each field a flag
    samples(config, forget, retain): what an epoch costs
    unlearn(classifier, data, config, fit): moves the network's weights in place

A module imports torch inside its functions, so that ``erase --help`` need not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from erase.runtime.modules import names

if TYPE_CHECKING:
    from erase.classifiers.models import Classifier
    from erase.classifiers.unlearning import Unlearning
    from erase.unlearn.fit import Fit

METHODS = Path(__file__).parent
Space = Mapping[str, tuple[float, float] | list[Any]]
"""Settings that ``erase classifier tune`` varies. A list is drawn evenly; a pair (low, high) on a
log scale, a factor on the recipe's value."""


@dataclass(frozen=True)
class Needs:
    """What a method wants before it.

    Attributes:
        epoch: the samples that it goes through in an epoch.
        loop: whether it trains step by step; a closed form does not, and has no epochs.
        mask: whether a mask may bind it; False for one that replaces all weights.
        retrains: whether it trains anew, for the share of a retraining that its setting ``share``
            says, or for all of it where it has none.
    """

    epoch: Literal["forget", "retain", "both"] = "both"
    loop: bool = True
    mask: bool = True
    retrains: bool = False


class Method(Protocol):
    """A module of this package."""

    NEEDS: Needs
    SPACE: Space
    Config: type[Any]

    @staticmethod
    def samples(config: Any, forget: int, retain: int) -> float:
        """Samples that an epoch takes forward and backward, one with its gradient counting three
        times and one without once.

        Args:
            config: an instance of ``Config``.
            forget, retain: how many there are of each.

        Raises:
            UserError: it can't forget so many.
        """
        ...

    @staticmethod
    def unlearn(classifier: Classifier, data: Unlearning, config: Any, fit: Fit) -> None:
        """Unlearns in place.

        Args:
            classifier: the base, on its device, in training mode.
            data: what to forget and what to retain.
            config: an instance of ``Config``.
            fit: does the optimisation (``fit(network, step)``) or sets a closed form's solution
                (``fit.assign``); a ``step`` returns the scalars to log, ``loss`` among them.
        """
        ...


def load_method(name: str) -> Method:
    """The method of that name, one of ``list_methods()``."""
    return cast(Method, import_module(f"{__name__}.{name.replace('-', '_')}"))


def list_methods() -> list[str]:
    """Names of the methods: the modules of ``erase.classifiers.methods``."""
    return [name.replace("_", "-") for name in names(METHODS)]
