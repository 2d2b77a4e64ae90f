"""Textual inversion (Gal et al., arXiv 2208.01618): token embeddings that stand for a concept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from erase.diffusion.conditioning import Conditioning, join
from erase.runtime.errors import UserError, clipped
from erase.runtime.progress import each, progress
from erase.runtime.seeding import generator

if TYPE_CHECKING:
    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion


@dataclass(frozen=True)
class Inversion:
    """What was learnt.

    Attributes:
        c: the prompts (P rows) with the learnt tokens in the word's place.
        tokens: bool (P, 77), where those stand.
    """

    c: Conditioning
    tokens: Tensor


@dataclass(frozen=True)
class Slots:
    """Prompts in which embeddings stand in a word's place.

    Attributes:
        ids: token ids (P, 77) by text encoder.
        places: bool (P, 77), where the embeddings stand; with ``ids`` beside the text encoders.
        lengths: tokens of each prompt, start and end among them.
    """

    ids: Sequence[Tensor]
    places: Tensor
    lengths: Sequence[int]

    def embed(self, diffusion: Diffusion, v: Sequence[Tensor], rows: Tensor) -> Conditioning:
        """The prompts ``rows`` (B,) with embeddings v, (N, d) for each text encoder; with graph."""
        own = rows.to(self.places.device)
        slots = self.places[own]
        times = int(slots.sum()) // len(v[0])  # a prompt may say the word twice
        ids, each = [ids[own] for ids in self.ids], [given.repeat(times, 1) for given in v]
        return diffusion.text.encode(ids, None, slots, each).float()


def tables(diffusion: Diffusion) -> list[nn.Module]:
    """The input embeddings of each text encoder."""
    return [encoder.get_input_embeddings() for _, encoder in diffusion.text.encoders]


@dataclass(frozen=True)
class Search:
    """How embeddings are learnt.

    Attributes:
        steps: of optimisation, >= 1.
        tokens: number of embeddings v, >= 1.
        lr: learning rate.
        end: whether ``Inversion.tokens`` marks the end-of-text token too.
        every_end: whether it marks every one; see ``Text.mark_end``.
        random_start: standard deviation of the noise that tokens beyond the word's start from;
            None repeats the word's.
        weight_decay: of the embeddings, >= 0; None is AdamW's own 0.01.
        norm: that |v| is pulled towards; None leaves it free.
    """

    steps: int
    tokens: int
    lr: float
    end: bool
    every_end: bool = False
    random_start: float | None = None
    weight_decay: float | None = None
    norm: float | None = None


def invert(diffusion: Diffusion, data: TrainingData, search: Search) -> Inversion:
    """Learns ``tokens`` input embeddings for the concept's word; all networks stay as they are.

    A model with two text encoders has embeddings v for each.

    Minimises MSE(ε, ε_θ(x_t|c_v)) over v on the forget images with AdamW, from the embeddings of
    the word's own tokens, in turn. Forget-Me-Not's code starts those beyond the word's from noise
    of deviation 1, decays with 0.1, and after each step sets |v| to |v| + λ(0.4 - |v|) with
    λ = min(1, 100·lr).

    Args:
        diffusion: the base model.
        data: forget images, prompts and their one word.
        search: how.

    Raises:
        UserError: a prompt without the word, or too long with the learnt tokens.
    """
    word = data.words[0]
    slots = slots_of(
        diffusion, [c for c, _ in data.pairs], word, search.tokens, "--inversion-tokens"
    )
    own = diffusion.text.tokenizer(word, add_special_tokens=False).input_ids
    learnt = _starts(tables(diffusion), own, search, data.seed)
    decay = 0.01 if search.weight_decay is None else search.weight_decay
    optimizer = torch.optim.AdamW(learnt, lr=search.lr, weight_decay=decay)
    pull = min(1.0, 100 * search.lr)
    for index in each(range(search.steps), progress("inversion", search.steps, "step")):
        # A few embeddings: every process learns them all.
        b = data.draw("forget", index, purpose="inversion")
        c_v = slots.embed(diffusion, learnt, b.prompt)
        value = mse_loss(diffusion.predict(b.x_t, b.t, c_v), b.target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if search.norm is not None:
            for v in learnt:
                long = v.data.norm(dim=-1, keepdim=True)
                v.data *= (long + pull * (search.norm - long)) / long
    with torch.no_grad():
        rows = torch.arange(len(slots.places))
        c = join([slots.embed(diffusion, learnt, part) for part in rows.split(64)])
    marked = slots.places.to(diffusion.device, copy=True)
    for row, length in zip(marked, slots.lengths, strict=True):
        if search.end:
            diffusion.text.mark_end(row, length, search.every_end)
    return Inversion(c, marked)


def _starts(
    tables: Sequence[nn.Module], own: Sequence[int], search: Search, seed: int
) -> list[Tensor]:
    """The embeddings v (tokens, d) of each table before the first step, to be learnt.

    Args:
        tables: of the text encoders' input embeddings.
        own: ids of the word's own tokens.
        search, seed: see ``invert``.
    """
    rows = [own[i % len(own)] for i in range(search.tokens)]
    learnt = [cast(Tensor, table.weight)[rows].detach().float().clone() for table in tables]
    if search.random_start is not None:
        g = generator(seed, "inversion", "start")
        for v in learnt:
            surplus = v[len(own) :]
            surplus.copy_(search.random_start * torch.randn(surplus.shape, generator=g))
    return [v.requires_grad_(True) for v in learnt]


def slots_of(
    diffusion: Diffusion, prompts: Sequence[str], word: str, count: int, flag: str = ""
) -> Slots:
    """Prompts with ``count`` embeddings in the place of a word; ``flag`` is what sets how many.

    Raises:
        UserError: a prompt without the word, or too long with so many.
    """
    tokenizer = diffusion.text.tokenizer
    length = tokenizer.model_max_length
    diffusion.text.positions(prompts, word)  # refuses prompts without it
    own = tokenizer(word, add_special_tokens=False).input_ids
    pads = [t.pad_token_id for t, _ in diffusion.text.encoders]
    ids = [torch.full((len(prompts), length), pad) for pad in pads]
    places = torch.zeros(len(prompts), length, dtype=torch.bool)
    lengths = []
    for i, prompt in enumerate(prompts):
        text = tokenizer(prompt, verbose=False).input_ids
        row: list[int] = []
        at = 0
        while at < len(text):
            if text[at : at + len(own)] == list(own):
                places[i, len(row) : len(row) + count] = True
                row += [own[0]] * count
                at += len(own)
            else:
                row.append(text[at])
                at += 1
        if len(row) > length:
            raise UserError(
                f"The prompt '{clipped(prompt)}' has {len(row)} tokens with the learned ones, but "
                f"the text encoder takes {length}: shorten it{flag and f', or give fewer {flag}'}."
            )
        for padded in ids:
            padded[i, : len(row)] = torch.tensor(row)
        lengths.append(len(row))
    # Beside the text encoders, wherever those are.
    device = diffusion.text.encoders[0][1].device
    return Slots([padded.to(device) for padded in ids], places.to(device), lengths)
