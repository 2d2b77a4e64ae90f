"""What attacks on the text share: tokens that can be typed, and prompts made of tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from erase.diffusion.tokens import padded, read
from erase.eval.attacks import DoesNotApply
from erase.runtime.errors import UserError
from erase.runtime.words import contains, fold

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.diffusion.text import Text
    from erase.prompts.concept import Concept

AT_ONCE = 256
"""Prompts that the text encoders see at a time."""
_END_OF_WORD = "</w>"


def text_of(model: Diffusion) -> Text:
    """The text encoders of a model.

    Raises:
        DoesNotApply: it lacks one, or a tokenizer.
    """
    try:
        text = model.text
    except UserError as error:
        raise DoesNotApply(str(error)) from error
    if not text.encoders or any(part is None for pair in text.encoders for part in pair):
        raise DoesNotApply(
            f"{model.source} lacks a text encoder or its tokenizer, which this attack works "
            "through: choose another attack."
        )
    return text


def reads_otherwise(model: Diffusion, base: Diffusion) -> bool:
    """Whether a model's text encoders are not the base's."""
    for name in model.family.layout.part("text_encoder"):
        own, other = (m.networks[name].state_dict() for m in (model, base))
        if any(key in other and not torch.equal(own[key], other[key]) for key in own):
            return True
    return False


def typed(text: Text) -> Mapping[int, str]:
    """The tokens that someone can type, with their words, by id.

    A whole word, number or sign each, so that the text of some of them, with spaces between, is
    read as those very tokens. Beginnings of words are left out, since they would join with what
    follows; so are parts of characters, capitals (which the tokenizers make small), and all that
    starts, ends or fills up a prompt.
    """
    special = {i for t, _ in text.encoders for i in (*t.all_special_ids, t.pad_token_id)}
    return _typed(text.tokenizer, frozenset(special))


@lru_cache(maxsize=4)
def _typed(tokenizer: Any, special: frozenset[int]) -> Mapping[int, str]:
    found = {}
    for token, i in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        if i in special or not token.endswith(_END_OF_WORD):
            continue
        word = token.removesuffix(_END_OF_WORD)
        # Beyond ASCII a token spells bytes instead of signs.
        word = word if word.isascii() else tokenizer.decode([i]).strip()
        if word and word.isprintable() and word == word.lower() and "\ufffd" not in word:
            found[i] = word
    return found


def own_words(concept: Concept) -> list[str]:
    """The words of the concept's own word or phrase, in one spelling."""
    return fold(concept.word).replace("-", " ").split()


def names_it(text: str, words: Sequence[str]) -> bool:
    """Whether a text has one of some words, in whatever form."""
    return any(contains(text, word) for word in words)


def spell(text: Text, ids: Sequence[int]) -> str:
    """The text of some tokens."""
    return str(text.tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)).strip()


@torch.no_grad()
def hidden(text: Text, rows: Sequence[Sequence[int]]) -> Iterator[Tensor]:
    """Hidden states (≤ ``AT_ONCE``, 77, D) of prompts of given tokens, part by part, in fp32."""
    for i in range(0, len(rows), AT_ONCE):
        yield text.encode(*padded(text, rows[i : i + AT_ONCE])).hidden.float()


def without(vocabulary: Mapping[int, str], text: Text, concept: Concept) -> dict[int, str]:
    """The tokens that neither are nor spell one of the concept's own words."""
    words = own_words(concept)
    own = {i for row in read(text, [concept.word, *words]) for i in row}
    # No plural begins with another letter than its singular, which spares most of the reading.
    first = tuple({word[0] for word in words})
    near = {i for i, w in vocabulary.items() if w.startswith(first) or not w.isascii()}
    own |= {i for i in near if names_it(vocabulary[i], words)}
    return {i: word for i, word in vocabulary.items() if i not in own}
