"""Text encoders with their tokenizers: prompts to a ``Conditioning``, and where words stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from erase.diffusion.conditioning import Conditioning
from erase.runtime.errors import UserError, clipped


@dataclass(frozen=True)
class Text:
    """One text encoder or several.

    Attributes:
        encoders: each tokenizer with its text encoder.
        device: where what they make is wanted; they themselves may be elsewhere.
        read: what of the text encoders' outputs the denoiser is told; is handed them, token ids
            (B, 77) for each, and the first one's attention mask (B, 77) or None.
        zeros: whether ∅ is zeros instead of the empty prompt.
    """

    encoders: Sequence[tuple[Any, Any]]
    device: torch.device
    read: Callable[[Sequence[Any], Sequence[Tensor], Tensor | None], Conditioning]
    zeros: bool = False

    closed: ClassVar[bool] = False

    @property
    def tokenizer(self) -> Any:
        """The first one; all have the same vocabulary, and differ in what fills up a prompt."""
        return self.encoders[0][0]

    @property
    def length(self) -> int:
        """Tokens that are read of a prompt."""
        return int(self.tokenizer.model_max_length)

    def facts(self) -> list[Any]:
        """See ``families.Reader``: the tokenizers' vocabularies, and what ∅ is."""
        words = [
            [sorted(tokenizer.get_vocab().items()), tokenizer.pad_token_id]
            for tokenizer, _ in self.encoders
        ]
        return [words, self.zeros]

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Conditioning:
        """The embedded prompts, each cut off at 77 tokens."""
        tokens = [
            tokenizer(
                list(prompts),
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            )
            for tokenizer, _ in self.encoders
        ]
        return self.encode([t.input_ids for t in tokens], tokens[0].attention_mask)

    def encode(
        self,
        ids: Sequence[Tensor],
        mask: Tensor | None = None,
        places: Tensor | None = None,
        v: Sequence[Tensor] = (),
    ) -> Conditioning:
        """What the text encoders make of tokens; keeps the graph.

        Args:
            ids: token ids (B, 77), one tensor per text encoder.
            mask: attention mask (B, 77), looked at by models that say so.
            places: bool (B, 77), of K tokens that are embedded as v instead.
            v: for each text encoder K input embeddings, (…, d), in the order of the places.
        """
        with ExitStack() as hooks:
            for (_, encoder), own in zip(self.encoders, v, strict=False):
                assert places is not None
                table = encoder.get_input_embeddings()
                hooks.callback(table.register_forward_hook(_put(places, own)).remove)
            c = self.read([encoder for _, encoder in self.encoders], ids, mask)
        return c.each(lambda x: x.to(self.device))

    def unconditional(self) -> Conditioning:
        """∅, one row."""
        empty = self.embed([""])
        return empty.each(torch.zeros_like) if self.zeros else empty

    def ids(self, prompts: Sequence[str]) -> list[tuple[tuple[int, ...], ...]]:
        """What is read of each prompt: its token ids by every tokenizer, cut off at 77."""
        if not prompts:
            return []
        each = [
            tokenizer(
                list(prompts), truncation=True, max_length=tokenizer.model_max_length
            ).input_ids
            for tokenizer, _ in self.encoders
        ]
        return [tuple(map(tuple, rows)) for rows in zip(*each, strict=True)]

    def cut(self, prompts: Iterable[str]) -> list[str]:
        """The prompts that have more tokens than a text encoder reads."""
        asked = list(prompts)
        found: set[int] = set()
        for tokenizer, _ in self.encoders:
            # Not verbose: the library would warn of lengths that are only counted here.
            rows = tokenizer(asked, verbose=False).input_ids if asked else []
            found |= {i for i, row in enumerate(rows) if len(row) > tokenizer.model_max_length}
        return [asked[i] for i in sorted(found)]

    def reads(self, prompt: str, word: str) -> bool:
        """Whether a word, wherever a prompt first says it, is read whole, before the cut."""
        at = prompt.lower().find(word.lower())
        return not self.cut([prompt[: at + len(word)] if at >= 0 else prompt])

    def last_token(self, prompts: Sequence[str]) -> Tensor:
        """Hidden states (B, D) of the last token before end-of-text; of the start if empty."""
        length = self.tokenizer.model_max_length
        ids = self.tokenizer(list(prompts), truncation=True, max_length=length).input_ids
        ends = torch.tensor([len(row) - 2 for row in ids])
        parts = [self.embed(prompts[i : i + 64]).hidden for i in range(0, len(prompts), 64)]
        hidden = torch.cat(parts)
        return hidden[torch.arange(len(ids)), ends.to(hidden.device)]

    def positions(
        self,
        prompts: Sequence[str],
        words: str | Sequence[str],
        end: bool = False,
        every_end: bool = False,
    ) -> Tensor:
        """Where the tokens of a word stand in each prompt: bool (B, 77).

        Args:
            prompts: each with its word, which may be the whole prompt.
            words: of all prompts, or of each; looked for without regard to case.
            end: whether the first end-of-text token counts too.
            every_end: whether every one does; see ``mark_end``.

        Raises:
            UserError: a prompt without the word.
        """
        tokenizer = self.tokenizer
        length = tokenizer.model_max_length
        each = [words] * len(prompts) if isinstance(words, str) else words
        found = torch.zeros(len(prompts), length, dtype=torch.bool)
        for row, prompt, word in zip(found, prompts, each, strict=True):
            wanted = tokenizer(word, add_special_tokens=False).input_ids
            ids = tokenizer(prompt, truncation=True, max_length=length).input_ids
            starts = [i for i in range(len(ids)) if wanted and ids[i : i + len(wanted)] == wanted]
            if not starts:
                raise UserError(
                    f"The word '{clipped(word)}' is not in the prompt '{clipped(prompt)}': choose "
                    "prompts that contain it."
                )
            for i in starts:
                row[i : i + len(wanted)] = True
            if end:
                self.mark_end(row, len(ids), every_end)
        return found.to(self.device)

    def mark_end(self, row: Tensor, length: int, every: bool) -> None:
        """Marks the end-of-text token of a prompt, in place.

        Args:
            row: bool (77,), of the first text encoder.
            length: tokens of the prompt, the end among them.
            every: mark those too that fill the prompt up, as they do in Stable Diffusion 1; 2
                fills up with another token.
        """
        row[length - 1] = True
        if every and self.tokenizer.pad_token_id == self.tokenizer.eos_token_id:
            row[length:] = True


def _put(places: Tensor, v: Tensor) -> Callable[..., Tensor]:
    """A hook that puts embeddings v in some places of a table's output."""

    def hook(_: Any, __: Any, output: Tensor) -> Tensor:
        return output.masked_scatter(places[..., None].to(output.device), v.to(output))

    return hook
