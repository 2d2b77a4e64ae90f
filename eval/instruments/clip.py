"""open_clip models: the bundled one, or any that a spec names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from erase.eval.instruments.spec import fetching, parse_spec
from erase.formats.configs import refuse_code, refuse_request
from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.files import digest, is_hidden, sha256
from erase.runtime.notes import note


@dataclass(frozen=True)
class Clip:
    """An open_clip model with what belongs to it.

    Attributes:
        model: encodes images and texts into one space.
        preprocess: Pillow RGB image to a float tensor (3, H, W).
        tokenizer: texts to token ids.
        facts: hashes of its weights, and the activation that they are run with.
    """

    model: Any
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Any
    facts: Mapping[str, Any]


def load_clip(spec: str, device: torch.device) -> Clip:
    """Opens ``open_clip:NAME[@FILE | @FOLDER | @TAG]``, with the activation of its training.

    A tag's own entry says whether that is QuickGELU, as with OpenAI's weights; so does a name such
    as ``ViT-L-14-quickgelu``, and a folder's configuration. For a file see ``_is_quick``.

    Raises:
        UserError: another library, an unknown name, weights that can't be read, no network.
    """
    import open_clip

    name, source, facts, quick = _settled(spec)
    with fetching(spec):
        if ":" in name:  # a configuration from elsewhere, whose tokenizer may ask for code
            refuse_request(open_clip.get_model_config(name), spec)
        model, _, preprocess = open_clip.create_model_and_transforms(
            name,
            pretrained=source,
            device=device,
            force_quick_gelu=quick,
            # Else a folder without weights is a network of random ones.
            require_pretrained=True,
            weights_only=True,
        )
        tokenizer = open_clip.get_tokenizer(name)
    model.eval().requires_grad_(False)
    return Clip(model, preprocess, tokenizer, facts | {"activation": _activation(model)})


def check_clip(spec: str) -> None:
    """Refuses what ``load_clip`` could not open, as far as no weights are needed to tell.

    Raises:
        UserError: another library, an unknown name, a file or folder that is not there.
    """
    _settled(spec)


def _settled(spec: str) -> tuple[str, str | None, dict[str, Any], bool]:
    """What open_clip calls the model and its weights, their hashes, and whether the activation of
    their training was QuickGELU."""
    import open_clip

    library, name, source = parse_spec(spec)
    if library != "open_clip":
        raise UserError(f"'{clipped(spec)}' is not a CLIP model: write open_clip:NAME[@FILE].")
    facts: dict[str, Any] = {}
    quick = False
    tags = open_clip.list_pretrained_tags_by_model(name)
    path = Path(source) if source and source not in tags and Path(source).exists() else None
    if path is not None and path.is_dir():
        refuse_code(path)
        name, source = f"local-dir:{path}", None
        parts = [f for f in sorted(path.iterdir()) if f.is_file() and not is_hidden(f)]
        content = [[f.name, sha256(f)] for f in parts]
        facts |= {"folder": str(path), "sha256": digest(content)}
    elif ":" not in name:
        if name not in (known := open_clip.list_models()):
            raise UserError(
                f"open_clip has no model '{clipped(name)}'.{nearest(name, known)} A model of your "
                "own is open_clip:NAME@FOLDER, with its open_clip_config.json in the folder."
            )
        if path is not None:
            facts |= {"file": str(path), "sha256": sha256(path)}
            quick = _is_quick(name, tags, path, facts["sha256"])
        else:
            if not tags:
                raise UserError(
                    f"open_clip has no weights for {name}: give a file of yours with {name}@FILE."
                )
            if source is not None and source not in tags:
                raise UserError(
                    f"open_clip has no weights '{clipped(source)}' for {name}: choose "
                    f"{clipped(', '.join(tags), 120)}, or give a file."
                )
            source = source or tags[0]
            quick = bool(open_clip.get_pretrained_cfg(name, source).get("quick_gelu"))
            facts["weights"] = source
    elif path is not None or source is not None:
        raise UserError(
            f"'{clipped(spec)}' names weights twice: write open_clip:NAME@FILE or open_clip:{name}."
        )
    return name, source, facts, quick


def _is_quick(name: str, tags: Sequence[str], file: Path, sha: str) -> bool:
    """Whether a file's weights were trained with QuickGELU, which the weights don't tell.

    Known are the files that open_clip lists for NAME, by their hash or place, those beside a
    configuration, and every file of a NAME whose published weights are all of one kind. Of others
    NAME decides; where OpenAI's weights have the same shapes, that is said.
    """
    import open_clip

    if open_clip.get_model_config(name).get("quick_gelu"):
        return True
    beside = file.with_name("open_clip_config.json")
    if beside.is_file():
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(beside.read_text(encoding="utf-8-sig"))
            return bool(told["model_cfg"].get("quick_gelu"))
    entries = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    for entry in entries:
        if _published(entry, file, sha):
            return bool(entry.get("quick_gelu"))
    kinds = {bool(entry.get("quick_gelu")) for entry in entries}
    if len(kinds) > 1:
        note(
            f"{file.name} is run with GELU, as {name} says; if these are OpenAI's weights, which "
            f"were trained with QuickGELU, write open_clip:{name}-quickgelu@FILE."
        )
    return kinds == {True}


def _published(entry: Mapping[str, Any], file: Path, sha: str) -> bool:
    """Whether a file is the one that an entry of open_clip's list names."""
    url, hub = str(entry.get("url") or ""), str(entry.get("hf_hub") or "").strip("/")
    # OpenAI's addresses hold the whole hash, the others' file names its beginning.
    short = re.search(r"-([0-9a-f]{8})\.pth?$", url)
    known = sha in url or (short is not None and sha.startswith(short[1]))
    # The hub's cache, and a copy of the repository under its own name.
    owner, _, repository = hub.partition("/")
    places = {f"models--{owner}--{repository}", repository}
    return known or (bool(repository) and not places.isdisjoint(file.parts))


def _activation(model: nn.Module) -> str:
    """The activations that a model has, by the names of their classes."""
    kinds = {type(part).__name__ for part in model.modules()}
    return ", ".join(sorted(kind for kind in kinds if "GELU" in kind)) or "as the model has it"
