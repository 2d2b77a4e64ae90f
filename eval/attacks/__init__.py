"""Attacks that try to bring an erased concept back, one module each, found by name.

A module ``erase.eval.attacks.NAME`` is all that an attack needs. It offers

    BUDGETS                                     forwards by budget: quick, full and published
    run(model, base, rows, judge, budget, generator) -> Found

and is asked four times alike: about the erased model, the base (ceiling), a model that never knew
the concept (floor), and with ``Budget.random`` about the erased one by random search of equal size.
The images become one more side, ``attack/NAME``, that metrics judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from erase.runtime.errors import UserError, nearest
from erase.runtime.modules import names

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from erase.diffusion.model import Diffusion
    from erase.images.request import Request

ATTACKS = Path(__file__).parent
Size = Literal["quick", "full", "published"]
Judge = Callable[[Sequence[NDArray[np.uint8]]], list[float]]
"""The probability in [0, 1] that each RGB image (H, W, 3) shows the concept; an early stop looks at
this judge alone."""


@dataclass(frozen=True)
class Budget:
    """What an attack may spend.

    Attributes:
        forwards: images through the denoiser, one with a gradient counting three times, >= 1.
        random: search at random instead of by the attack's own way, with as many.
    """

    forwards: int
    random: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """What an attack came up with.

    Attributes:
        images: uint8 (H, W, 3), one for each row, in order.
        forwards: images through the denoiser that were spent.
        prompts: texts that were found, one for each row; empty where it finds none.
        tokens: ids of those texts, as a tokenizer of other words may split them otherwise.
        embedding: (N, d) that was found in place of a word; None where it finds none.
        curve: (forwards or steps, share of images with the concept), in order.
    """

    images: Sequence[NDArray[np.uint8]]
    forwards: int
    prompts: Sequence[str] = ()
    tokens: Sequence[Sequence[int]] = ()
    embedding: Tensor | None = None
    curve: Sequence[tuple[float, float]] = field(default_factory=tuple)


class Attack(Protocol):
    """A module of this package."""

    BUDGETS: Mapping[Size, int]

    @staticmethod
    def run(
        model: Diffusion,
        base: Diffusion,
        rows: Sequence[Request],
        judge: Judge,
        budget: Budget,
        generator: Generator,
    ) -> Found:
        """Attacks a model.

        Args:
            model: what is attacked; as it was afterwards.
            base: the model that it was erased from, which an attacker may know.
            rows: the images to make, with prompts of the concept and seeds.
            judge: whether an image shows the concept.
            budget: what may be spent.
            generator: of every draw.
        """
        ...


def list_attacks() -> list[str]:
    """Names of the attacks: the modules of ``erase.eval.attacks``."""
    return [name.replace("_", "-") for name in names(ATTACKS)]


def load_attack(name: str) -> Attack:
    """The attack of that name.

    Raises:
        UserError: there is none.
    """
    known = list_attacks()
    if name not in known:
        raise UserError(
            f"There is no attack '{name}': choose from {', '.join(known) or 'none yet'}."
            f"{nearest(name, known)}"
        )
    return cast(Attack, import_module(f"{__name__}.{name.replace('-', '_')}"))
