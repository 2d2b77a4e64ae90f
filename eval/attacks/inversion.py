"""Concept inversion (Pham et al., arXiv 2308.01508): an embedding learned on the erased model.

Textual inversion with the base's images of the concept: v = argmin_v E‖ε - ε_θ(x_t | c_v)‖² over an
input embedding v in the place of the concept's word, from several starts. The models learn nothing:
what v brings back, they still hold. Random search draws as many embeddings as the forwards pay for
and takes the one of the lowest loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from erase.diffusion.inversion import Slots, slots_of, tables
from erase.eval.attacks import DoesNotApply, Found
from erase.eval.attacks._drawing import Pictures, draw_from
from erase.eval.attacks._images import FRESH, price, told
from erase.eval.attacks._text import text_of
from erase.runtime.errors import UserError
from erase.runtime.progress import each, progress
from erase.runtime.words import fold

if TYPE_CHECKING:
    from torch import Generator

    from erase.diffusion.model import Diffusion
    from erase.eval.attacks import Target

TEXT = False


@dataclass(frozen=True)
class Settings:
    """What is spent.

    Attributes:
        restarts: starts, each of which draws every row once.
        steps: of AdamW.
        batch: pictures a step.
        lr: learning rate.
    """

    restarts: int = 3
    steps: int = 200
    batch: int = 8
    lr: float = 5e-3


SETTINGS = {
    "quick": Settings(),
    "full": Settings(steps=500),
    "published": Settings(steps=3000, batch=4),
}


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: Generator,
) -> Found:
    """See ``Attack``; the first start is the word's own embedding, the others are known tokens'.

    Raises:
        DoesNotApply: a model without a text encoder.
    """
    text_of(model)
    word = target.concept.word
    own = model.text.tokenizer(word, add_special_tokens=False).input_ids
    shown = [named(row.prompt, word) for row in target.shown]
    asked = [named(row.prompt, word) for row in target.rows]
    try:
        slots = slots_of(model, [*shown, *asked], word, 1)
    except UserError as error:
        raise DoesNotApply(str(error)) from error
    rows = torch.arange(len(asked)) + len(shown)
    pictures, spent = Pictures.of(model, base, target.shown, target, generator)
    images, fresh, first = [], [], None
    title = "random embeddings" if random else "inversion"
    bar = progress(title, settings.restarts * settings.steps, "step")
    for restart in range(settings.restarts):
        search = _drawn if random else _learned
        start = own if restart == 0 and target.named else None
        v = search(model, slots, pictures, settings, start, bar)
        with torch.no_grad():
            c = slots.embed(model, v, rows)
        images += draw_from(model, c, target.rows, target)
        if first is None:
            first = v[0].detach().cpu()
            if not (random or target.bound):
                fresh = draw_from(model, c, told(target.rows, asked, FRESH), target)
    spent += 3 * settings.restarts * settings.steps * settings.batch
    one = sum(price(row, target.sampler) for row in target.rows)
    spent += one * (settings.restarts + bool(fresh))
    return Found(images, spent, settings.restarts, fresh=fresh, embedding=first)


def named(prompt: str, word: str) -> str:
    """The prompt, with the word in front where it does not say it."""
    return prompt if fold(word) in fold(prompt) else f"{word}, {prompt}"


def _learned(
    model: Diffusion,
    slots: Slots,
    pictures: Pictures,
    settings: Settings,
    start: Sequence[int] | None,
    bar: object,
) -> list[Tensor]:
    """An embedding (1, d) for each text encoder, from the tokens ``start`` or a drawn one."""
    v = [x.requires_grad_(True) for x in _starts(model, start, pictures.generator)]
    optimizer = torch.optim.AdamW(v, lr=settings.lr)
    for _ in each(range(settings.steps), bar):  # type: ignore[arg-type]
        index, x_t, t, goal = pictures.noised(settings.batch)
        loss = mse_loss(model.predict(x_t, t, slots.embed(model, v, index)), goal)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [x.detach() for x in v]


@torch.no_grad()
def _drawn(
    model: Diffusion,
    slots: Slots,
    pictures: Pictures,
    settings: Settings,
    start: Sequence[int] | None,
    bar: object,
) -> list[Tensor]:
    """The best by the loss on one batch of as many normal draws as the steps would cost."""
    index, x_t, t, goal = pictures.noised(settings.batch)
    best, least = None, float("inf")
    for _ in each(range(settings.steps), bar):  # type: ignore[arg-type]
        for _ in range(3):
            v = [
                table.std() * torch.randn(1, table.shape[1], generator=pictures.generator).to(table)
                for table in _weights(model)
            ]
            loss = float(mse_loss(model.predict(x_t, t, slots.embed(model, v, index)), goal))
            if loss < least:
                best, least = v, loss
    return cast(list[Tensor], best)


def _weights(model: Diffusion) -> list[Tensor]:
    return [cast(Tensor, table.weight).detach().float() for table in tables(model)]


def _starts(
    model: Diffusion, start: Sequence[int] | None, generator: torch.Generator
) -> list[Tensor]:
    """The mean embedding (1, d) of some tokens, or of one that is drawn, in each table."""
    found = _weights(model)
    if start is None:
        special = set(model.text.tokenizer.all_special_ids)
        known = [i for i in range(len(found[0])) if i not in special]
        start = [known[int(torch.randint(len(known), (1,), generator=generator))]]
    return [table[list(start)].mean(0, keepdim=True).clone() for table in found]
