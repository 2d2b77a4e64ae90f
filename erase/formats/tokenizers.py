"""Tokenizers of a pipeline folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from erase.formats.configs import read_json
from erase.formats.folder import components
from erase.formats.tensors import refuse_pointer
from erase.runtime.errors import UserError, clipped, reason

VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"))
"""The files that either form of a tokenizer consists of."""
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")


def open_tokenizer(folder: Path, name: str) -> Any:
    """One of the tokenizers of a pipeline folder.

    One that comes without its settings gets those of its text encoder: the length, and OpenCLIP's
    way to fill prompts up with token 0.

    Args:
        folder: of the pipeline.
        name: ``tokenizer`` or ``tokenizer_2``.

    Raises:
        UserError: files are missing or damaged, or it knows tokens that the text encoder does not.
    """
    import transformers

    kind, place = components(folder)[name][1], folder / name
    known_class: Any = getattr(transformers, kind, None)
    base = transformers.PreTrainedTokenizerBase
    fits = isinstance(known_class, type) and issubclass(known_class, base)
    if not fits:
        raise UserError(
            f"{folder} has a tokenizer of the class {clipped(kind)}, which is not a tokenizer of "
            "the installed transformers: update transformers, or name another."
        )
    files = next((f for f in VOCABULARIES if all((place / n).is_file() for n in f)), None)
    if files is None:
        raise UserError(
            f"{place} has neither a tokenizer.json nor a vocab.json with its merges.txt: "
            "download the model again."
        )
    encoder = read_json(folder / name.replace("tokenizer", "text_encoder") / "config.json")
    settings: dict[str, str] = {}
    if not any((place / setting).is_file() for setting in _SETTINGS) and (
        encoder.get("hidden_act", "quick_gelu") != "quick_gelu"
    ):
        settings["pad_token"] = "!"
    try:
        for file in files:
            refuse_pointer(place / file)
        opened: Any = known_class.from_pretrained(place, local_files_only=True, **settings)
        known = max(opened.get_vocab().values()) + 1
        longest = int(encoder.get("max_position_embeddings", 77))
        if opened.model_max_length > longest:
            opened.model_max_length = longest
    except UserError:
        raise
    except Exception as error:  # whatever damaged files make the library raise
        raise UserError(
            f"{place} can't be opened ({reason(error)}): download the model again."
        ) from error
    if known > encoder.get("vocab_size", 49408):
        raise UserError(
            f"{place} has {known} tokens, but the text encoder {encoder.get('vocab_size')}: "
            "give the two that were saved together."
        )
    return opened
