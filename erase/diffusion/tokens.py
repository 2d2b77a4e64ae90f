"""Prompts as tokens, and embeddings that stand before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from erase.runtime.errors import UserError, clipped

if TYPE_CHECKING:
    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.text import Text


def read(text: Text, prompts: Sequence[str]) -> list[tuple[int, ...]]:
    """The token ids of each prompt by the first tokenizer, cut off, without start and end."""
    return [rows[0][1:-1] for rows in text.ids(prompts)]


def check_length(text: Text, prompts: Sequence[str], more: int, remedy: str) -> None:
    """Refuses prompts that don't fit with ``more`` tokens before them.

    Raises:
        UserError: naming the first, and what to do.
    """
    most = text.tokenizer.model_max_length
    ids = text.tokenizer([*prompts], truncation=False, verbose=False).input_ids
    for prompt, row in zip(prompts, ids, strict=True):
        if len(row) + more > most:
            raise UserError(
                f"The prompt '{clipped(prompt)}' has {len(row) + more} tokens with the embeddings "
                f"before it, but the text encoder takes {most}: {remedy}."
            )


def padded(text: Text, rows: Sequence[Sequence[int]]) -> tuple[list[Tensor], Tensor]:
    """Prompts of given tokens as the text encoders take them.

    Args:
        text: the text encoders.
        rows: token ids of each of B prompts without start and end; what is too long is cut off.

    Returns:
        Ids (B, 77) for each text encoder, which differ in what fills them up, and the attention
        mask (B, 77), all beside the first one.
    """
    tokenizer = text.tokenizer
    length = tokenizer.model_max_length
    first, last = tokenizer.bos_token_id, tokenizer.eos_token_id
    whole = [[first, *row[: length - 2], last] for row in rows]
    device = text.encoders[0][1].device
    ids = [
        torch.tensor([row + [pad] * (length - len(row)) for row in whole], device=device)
        for pad in (t.pad_token_id for t, _ in text.encoders)
    ]
    sizes = torch.tensor([[len(row)] for row in whole], device=device)
    return ids, (torch.arange(length, device=device) < sizes).long()


def encode(text: Text, rows: Sequence[Sequence[int]], v: Sequence[Tensor] = ()) -> Conditioning:
    """What the text encoders make of prompts whose first tokens are embedded as v; with a graph.

    Args:
        text: the text encoders, left as they are.
        rows: token ids of each of B prompts, see ``padded``; k of them stand for the first ones.
        v: (B, k, d) for each text encoder, its input embeddings of those; () for none.
    """
    ids, mask = padded(text, rows)
    places = torch.zeros_like(mask, dtype=torch.bool)
    if v:
        places[:, 1 : 1 + v[0].shape[1]] = True
    return text.encode(ids, mask, places, v).float()
