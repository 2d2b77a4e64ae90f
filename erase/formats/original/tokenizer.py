"""CLIP's tokenizer, from the vocabulary that open_clip ships."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

START, END = 49406, 49407


def build_tokenizer(folder: Path, pad: str = "<|endoftext|>") -> CLIPTokenizer:
    """Writes CLIP's tokenizer, from the vocabulary that open_clip ships, and opens it.

    Only ``vocab.json`` and ``merges.txt`` are kept, as in Stable Diffusion 1.x's own folder.

    Args:
        folder: where it is written.
        pad: the token that fills up short prompts; ``!`` for OpenCLIP's text encoders, those of
            Stable Diffusion 2 and the second one of SDXL.
    """
    import open_clip
    from transformers import CLIPTokenizer

    bpe = open_clip.SimpleTokenizer()
    ids = dict(bpe.encoder)
    for name in [n for n, i in ids.items() if i in (START, END)]:
        del ids[name]
    ids |= {"<|startoftext|>": START, "<|endoftext|>": END}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False), encoding="utf-8")
    merges = "\n".join(" ".join(pair) for pair in bpe.bpe_ranks)
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    config = json.dumps(tokenizer_config(pad), indent=2)
    (folder / "tokenizer_config.json").write_text(config + "\n")
    return CLIPTokenizer.from_pretrained(folder)


def tokenizer_config(pad: str) -> dict[str, Any]:
    """``tokenizer_config.json`` of CLIP's tokenizer; ``pad`` as in ``build_tokenizer``."""
    return {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "do_lower_case": True,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": pad,
        "unk_token": "<|endoftext|>",
    }
