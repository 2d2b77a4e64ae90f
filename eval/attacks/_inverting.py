"""What attacks share that learn embeddings in the place of the concept's word."""

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


@dataclass(frozen=True)
class Settings:
    """What is spent.

    Attributes:
        vectors: embeddings, one after the other in the word's place.
        restarts: starts, each of which draws every row once.
        steps: of AdamW.
        batch: pictures a step.
        lr: learning rate.
    """

    vectors: int = 1
    restarts: int = 3
    steps: int = 200
    batch: int = 8
    lr: float = 5e-3


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
        slots = slots_of(model, [*shown, *asked], word, settings.vectors)
    except UserError as error:
        raise DoesNotApply(str(error)) from error
    rows = torch.arange(len(asked)) + len(shown)
    pictures, spent = Pictures.of(model, base, target.shown, target, generator)
    images, fresh, first = [], [], list[Tensor]()
    title = "random embeddings" if random else "inversion"
    bar = progress(title, settings.restarts * settings.steps, "step")
    for restart in range(settings.restarts):
        search = _drawn if random else _learned
        start = own if restart == 0 and target.named else None
        v = search(model, slots, pictures, settings, start, bar)
        with torch.no_grad():
            c = slots.embed(model, v, rows)
        images += draw_from(model, c, target.rows, target)
        if not first:
            first = [x.detach().cpu() for x in v]
            if not (random or target.bound):
                fresh = draw_from(model, c, told(target.rows, asked, FRESH), target)
    spent += 3 * settings.restarts * settings.steps * settings.batch
    one = sum(price(row, target.sampler) for row in target.rows)
    spent += one * (settings.restarts + bool(fresh))
    return Found(images, spent, settings.restarts, fresh=fresh, embeddings=first)


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
    """Embeddings (N, d) for each text encoder, from the tokens ``start`` or drawn ones."""
    found = _starts(model, start, settings.vectors, pictures.generator)
    v = [x.requires_grad_(True) for x in found]
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
                table.std()
                * torch.randn(settings.vectors, table.shape[1], generator=pictures.generator).to(
                    table
                )
                for table in _weights(model)
            ]
            loss = float(mse_loss(model.predict(x_t, t, slots.embed(model, v, index)), goal))
            if loss < least:
                best, least = v, loss
    return cast(list[Tensor], best)


def _weights(model: Diffusion) -> list[Tensor]:
    return [cast(Tensor, table.weight).detach().float() for table in tables(model)]


def _starts(
    model: Diffusion, start: Sequence[int] | None, vectors: int, generator: torch.Generator
) -> list[Tensor]:
    """Embeddings (N, d) of some tokens in turn, or of drawn ones, in each table; a single one is
    the tokens' mean."""
    found = _weights(model)
    if start is None:
        special = set(model.text.tokenizer.all_special_ids)
        known = [i for i in range(len(found[0])) if i not in special]
        start = [known[i] for i in torch.randint(len(known), (vectors,), generator=generator)]
    if vectors == 1:
        return [table[list(start)].mean(0, keepdim=True).clone() for table in found]
    rows = [start[i % len(start)] for i in range(vectors)]
    return [table[rows].clone() for table in found]
