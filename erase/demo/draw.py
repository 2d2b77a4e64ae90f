"""A prompt drawn by every model, step by step, so that it can be told of and stopped."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from PIL import Image

from erase.demo.show import FULL
from erase.eval.pages import phrases
from erase.eval.pages.html import encoded
from erase.images.request import Shot
from erase.runtime.devices import memory_told
from erase.runtime.errors import UserError, clipped
from erase.runtime.seeding import MAX_SEED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from erase.demo.judging import Answer
    from erase.demo.show import Column, Show
    from erase.diffusion.families import Reader
    from erase.images.request import Sampler

Tell = Callable[[Mapping[str, Any]], None]
"""Is told how far the work is; what it raises ends the work."""


def check_shot(asked: object, reader: Reader) -> Shot:
    """What the page asks for, checked.

    Args:
        asked: JSON, ``{prompt, seed}``, both as typed.
        reader: what reads the model's prompts.

    Raises:
        UserError: an empty prompt, one that the model would not read to its end or that is none of
            its classes, or a seed out of range.
    """
    given = asked if isinstance(asked, dict) else {}
    typed = (given.get(key) for key in ("prompt", "seed"))
    prompt, seed = ("" if one is None else str(one).strip() for one in typed)
    if not prompt:
        raise UserError("There is no prompt: type what the picture should show.")
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise UserError("The prompt holds half a character: type it again.") from error
    if reader.closed:
        reader.ids([prompt])
    if reader.cut([prompt]):
        raise UserError(
            f"The prompt is longer than the {reader.length} tokens that the model reads: shorten "
            "it."
        )
    if not re.fullmatch(r"[0-9]{1,19}", seed) or int(seed) >= MAX_SEED:
        raise UserError(
            f"The seed '{clipped(seed, 30)}' can't be used: give a whole number from 0 to 2^63 - 1."
        )
    return Shot(prompt, int(seed))


def draw(show: Show, shot: Shot, tell: Tell) -> None:
    """Draws a prompt from the same noise with every column's model, and has it judged.

    ``tell`` hears of each step (``column``, ``step``, ``steps`` of that image) and of each finished
    image (``column``, ``image``, ``answers``, ``veiled``).

    Raises:
        UserError: the device's memory is full, or a model's weights are not finite.
    """
    for number, column in enumerate(show.columns):
        pixels = _sample(column, number, show.sampler, shot, tell)
        answers, veiled = show.jury.look(pixels)
        tell(
            {
                "column": number,
                "image": encoded(Image.fromarray(pixels), "PNG"),
                "answers": [_told(answer, column) for answer in answers],
                "veiled": veiled,
            }
        )


def _sample(
    column: Column, number: int, sampler: Sampler, shot: Shot, tell: Tell
) -> NDArray[np.uint8]:
    """One image (H, W, 3) of a model, with its steps told."""
    taken = itertools.count(1)

    def step() -> None:
        tell({"column": number, "step": next(taken), "steps": sampler.steps})

    with memory_told(FULL), _each_forward(column.model.denoiser, step):
        pixels: NDArray[np.uint8] = column.model.sample([shot], sampler)[0]
    return pixels


@contextmanager
def _each_forward(denoiser: nn.Module, step: Callable[[], None]) -> Iterator[None]:
    """Calls ``step`` after each prediction: one for every step of the samplers that there are."""
    hook = denoiser.register_forward_hook(lambda *_: step())
    try:
        yield
    finally:
        hook.remove()


def _told(answer: Answer, column: Column) -> dict[str, Any]:
    """An answer in words, and whether it is what the column's model should not show."""
    said = phrases.words(answer.label)
    if answer.parts:
        said += f": {phrases.listed([phrases.words(part.lower()) for part in answer.parts])}"
    if answer.confidence is not None:
        said += f", {phrases.percent(answer.confidence)}"
    still = (answer.axis, answer.label) in column.erased
    return {"axis": phrases.words(answer.axis), "said": said, "still": still}
