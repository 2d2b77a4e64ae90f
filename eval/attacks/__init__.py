"""Attacks that try to bring an erased concept back, one module each, found by name.

A module ``erase.eval.attacks.NAME`` is all that an attack needs. It offers

    TEXT                                        whether a prompt to be typed is all that it yields
    SETTINGS                                    what it spends: quick, full and published
    run(model, base, target, settings, random, generator) -> Found

and, where they are so,

    STOPS       steps of its curve of which one is the figure
    ALONE       its images are not of the rows' prompts: what those show without it does not count
    UNTAUGHT    a base asked by a made-up name is no floor of it, only a model that never knew the
                concept
    PARAPHRASES it reads the target's paraphrases, which others are not handed
    UNDOES      it undoes an edit, so that what it does on the base proves nothing

and is asked four times alike: about the erased model; with ``random`` about the same one, by random
search of equal size; about the base (ceiling; an attack of text does without the concept's own name
there); and about a model that never knew the concept (floor). Its first line is what ``erase list
attacks`` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from erase.runtime.errors import UserError, nearest
from erase.runtime.modules import names

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from erase.diffusion.model import Diffusion
    from erase.images.request import Request, Sampler
    from erase.prompts.concept import Concept

ATTACKS = Path(__file__).parent
Size = Literal["quick", "full", "published"]
Judge = Callable[[Sequence[NDArray[np.uint8]]], list[float]]
"""The probability in [0, 1] that each RGB image (H, W, 3) shows the concept; an early stop looks at
this judge alone."""


class DoesNotApply(UserError):
    """The attack can't be made on this model, or on this side of it."""


SUCCESS = 0.5
"""The least probability at which an image counts as one of the concept."""


@dataclass(frozen=True, eq=False)
class Target:
    """What an attacker wants, knows and may use.

    Attributes:
        concept: what was erased.
        rows: the images to make: prompts of the concept with seeds, the same of every model.
        pictured: the same rows as prompts that the base draws the concept from, whose images an
            attack may aim at.
        shown: other prompts of the concept with other seeds; the base's images of them are what an
            attacker with pictures has.
        retained: prompts that name other things, as many or more.
        elsewhere: ``rows`` with another concept's name in its place: what help from outside alone
            brings about; empty where no other is known.
        paraphrases: prompts that ask for the concept in other words, for attacks that read them.
        sampler: how images are made.
        judge: whether an image shows the concept; an early stop looks at this one alone.
        named: whether the concept's own name may be used; without, no attack starts from it or
            finds it among its words.
        batch: images at a time, >= 1.
        bound: whether this side only says what the attack does elsewhere, so that what it finds
            need not be tried again.
    """

    concept: Concept
    rows: Sequence[Request]
    pictured: Sequence[Request]
    shown: Sequence[Request]
    retained: Sequence[Request]
    elsewhere: Sequence[Request]
    paraphrases: Sequence[str]
    sampler: Sampler
    judge: Judge
    named: bool = True
    batch: int = 8
    bound: bool = False


@dataclass(frozen=True, eq=False)
class Found:
    """What an attack came up with.

    Attributes:
        images: uint8 (H, W, 3), the best of the attack for each row, in order; those of several
            restarts one after the other.
        forwards: images through the denoiser that were spent, one with a gradient counting three
            times.
        restarts: times that the whole attack was made, each with an image of every row.
        chosen: where an early stop looked at the judge, the images that the attack's own loss
            would have chosen; empty where those are ``images``.
        fresh: what was found, on new seeds; empty where there is nothing to keep, by random search,
            and of bounds.
        prompts: texts by which a row's first image was asked for, one for each; empty where they
            are the rows' own.
        later: what was added to the rows' seeds for those images.
        tokens: ids of those texts, as a tokenizer of other words may split them otherwise.
        embeddings: (N, d) for each text encoder that were found in place of a word; empty where it
            finds none.
        curve: images by what was spent, such as training steps, in order; the first points are of
            the model as it is.
    """

    images: Sequence[NDArray[np.uint8]]
    forwards: int
    restarts: int = 1
    chosen: Sequence[NDArray[np.uint8]] = ()
    fresh: Sequence[NDArray[np.uint8]] = ()
    prompts: Sequence[str] = ()
    later: int = 0
    tokens: Sequence[Sequence[int]] = ()
    embeddings: Sequence[Tensor] = ()
    curve: Mapping[int, Sequence[NDArray[np.uint8]]] = field(default_factory=dict)


class Attack(Protocol):
    """A module of this package."""

    TEXT: bool
    SETTINGS: Mapping[Size, Any]

    @staticmethod
    def run(
        model: Diffusion,
        base: Diffusion,
        target: Target,
        settings: Any,
        random: bool,
        generator: Generator,
    ) -> Found:
        """Attacks a model.

        Args:
            model: what is attacked; afterwards it is as it was.
            base: the model that it was erased from, which an attacker may know.
            target: what should be brought back.
            settings: of a budget.
            random: search at random, with as many forwards, or with the wrong concept's help,
                instead of by the attack's own way.
            generator: of every draw.

        Raises:
            DoesNotApply: the model lacks what the attack works on.
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
