"""Closed-form embedding (RECE; Gong et al., arXiv 2407.12383): what edited keys and values hide.

Where nothing but keys and values of cross-attention was edited, W_0 to W, the embedding that makes
the edited layers answer as the base's did is

    c* = (λI + Σ WᵀW)⁻¹ (Σ Wᵀ W_0) c

summed over those layers: no denoising is spent. The plain prompts on new seeds are its bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from erase.diffusion.conditioning import Conditioning
from erase.diffusion.revival import revival
from erase.eval.attacks import DoesNotApply, Found
from erase.eval.attacks._drawing import draw_from
from erase.eval.attacks._images import FRESH, draw, price, told
from erase.eval.attacks._text import reads_otherwise, text_of

if TYPE_CHECKING:
    from torch import Generator

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target

TEXT = False
UNDOES = True
ENDS = ("attn2.to_k.weight", "attn2.to_v.weight")
"""Of the names of the weights that read the prompt."""


@dataclass(frozen=True)
class Settings:
    """What is set.

    Attributes:
        lam: λ, which keeps the inverse in bounds.
    """

    lam: float = 0.1


SETTINGS = dict.fromkeys(("quick", "full", "published"), Settings())


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: Generator,
) -> Found:
    """See ``Attack``.

    Raises:
        DoesNotApply: other weights were edited too, or the model is told no texts.
    """
    text_of(model)
    own, before = (dict(m.denoiser.named_parameters()) for m in (model, base))
    moved = [name for name in own if not torch.equal(own[name], before[name])]
    others = any(not name.endswith(ENDS) for name in moved) or reads_otherwise(model, base)
    if others and not target.bound:
        raise DoesNotApply(
            "The closed form holds for models of which cross-attention's keys and values alone "
            "were edited."
        )
    prompts = [row.prompt for row in target.rows]
    if random:
        return Found(*draw(model, told(target.rows, prompts, FRESH), target))
    read = [name for name in own if name.endswith(ENDS)]
    names = [name for name in read if name in moved] or read
    m = revival({n: own[n] for n in names}, {n: before[n] for n in names}, settings.lam)
    c = model.embed(prompts).float()
    c = Conditioning(c.hidden @ m.T.to(c.hidden), c.added)
    spent = sum(price(row, target.sampler) for row in target.rows)
    return Found(draw_from(model, c, target.rows, target), spent)
