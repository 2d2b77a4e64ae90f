"""Round trips: the erased weights in fp16 and in int8, as they are passed on.

A small edit may be less than what half precision or quantisation rounds away, so that the concept
comes back without anyone's intent. The plain prompts on new seeds are its bound.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from erase.eval.attacks import Found
from erase.eval.attacks._images import FRESH, draw, told
from erase.eval.attacks._tries import best_of

if TYPE_CHECKING:
    from torch import Generator

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target

TEXT = False
UNDOES = True


@dataclass(frozen=True)
class Settings:
    """What is tried.

    Attributes:
        kinds: ``fp16``, or ``int8`` with a scale for each output channel.
    """

    kinds: tuple[str, ...] = ("fp16", "int8")


SETTINGS = dict.fromkeys(("quick", "full", "published"), Settings())


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: Generator,
) -> Found:
    """See ``Attack``; of a row's images the most certain one counts."""
    prompts = [row.prompt for row in target.rows]
    tries, spent = [], 0
    for number, kind in enumerate(settings.kinds, 1):
        changed = model if random else rounded(model, kind)
        rows = told(target.rows, prompts, number * FRESH if random else 0)
        images, own = draw(changed, rows, target)
        tries.append(images)
        spent += own
    return best_of(tries, target, spent)


@torch.no_grad()
def rounded(model: Diffusion, kind: str) -> Diffusion:
    """The model with copies of what erasing moves, whose weights went through ``kind``."""
    pipeline = copy.copy(model.pipeline)
    layout = model.family.layout
    for name in (layout.denoiser, *layout.part("text_encoder")):
        network = copy.deepcopy(model.networks[name])
        for parameter in network.parameters():
            parameter.copy_(parameter.half() if kind == "fp16" else int8(parameter))
        pipeline.register_modules(**{name: network})
    return replace(model, pipeline=pipeline)


def int8(w: Tensor) -> Tensor:
    """Weights of which each output channel has 255 levels, symmetric about 0; vectors stay."""
    if w.ndim < 2:
        return w
    flat = w.flatten(1)
    scale = flat.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return ((flat / scale).round() * scale).view_as(w)
