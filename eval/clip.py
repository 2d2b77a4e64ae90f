"""open_clip models: the bundled one, or any that a spec names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from erase.errors import UserError, nearest
from erase.eval.opening import fetching, parse_spec
from erase.files import digest, sha256
from erase.layout import refuse_code, refuse_request


@dataclass(frozen=True)
class Clip:
    """An open_clip model with what belongs to it.

    Attributes:
        model: encodes images and texts into one space.
        preprocess: Pillow RGB image to a float tensor (3, H, W).
        tokenizer: texts to token ids.
        facts: hashes of its weights.
    """

    model: Any
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Any
    facts: Mapping[str, Any]


def load_clip(spec: str, device: torch.device) -> Clip:
    """Opens ``open_clip:NAME[@FILE | @FOLDER | @TAG]``.

    Raises:
        UserError: another library, an unknown name, weights that can't be read, no network.
    """
    import open_clip

    library, name, source = parse_spec(spec)
    if library != "open_clip":
        raise UserError(f"'{spec}' is no CLIP model: write open_clip:NAME[@FILE].")
    facts: dict[str, Any] = {}
    path = Path(source) if source and Path(source).exists() else None
    if path is not None and path.is_dir():
        refuse_code(path)
        name, source = f"local-dir:{path}", None
        content = [[f.name, sha256(f)] for f in sorted(path.iterdir()) if f.is_file()]
        facts |= {"folder": str(path), "sha256": digest(content)}
    elif path is not None:
        facts |= {"file": str(path), "sha256": sha256(path)}
    elif ":" not in name:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if not tags:
            known = open_clip.list_models()
            raise UserError(f"open_clip has no model '{name}'.{nearest(name, known)}")
        if source is not None and source not in tags:
            raise UserError(
                f"open_clip has no weights '{source}' for {name}: choose {', '.join(tags)}, or "
                "give a file."
            )
        source = source or tags[0]
        facts["weights"] = source
    with fetching(spec):
        if ":" in name:  # a configuration from elsewhere, whose tokenizer may ask for code
            refuse_request(open_clip.get_model_config(name), spec)
        model, _, preprocess = open_clip.create_model_and_transforms(
            name, pretrained=source, device=device, weights_only=True
        )
        tokenizer = open_clip.get_tokenizer(name)
    model.eval().requires_grad_(False)
    return Clip(model, preprocess, tokenizer, facts)


def mini_clip() -> str:
    """Spec of the bundled open_clip model."""
    from importlib.resources import files

    return f"open_clip:mini@{Path(str(files('erase.mini'))) / 'weights' / 'judges' / 'clip'}"
