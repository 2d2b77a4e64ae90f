"""Weights files of judges: plain tensors, with a card that says how to use them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from erase.errors import UserError
from erase.tables import read_text

SUFFIXES = (".safetensors", ".pth", ".pt")
"""Of the files that can be read."""


@dataclass(frozen=True)
class Card:
    """The ``judge`` metadata of a safetensors file."""

    arch: str
    labels: tuple[str, ...]
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_card(metadata: Mapping[str, str], file: Path, arch: str) -> Card | None:
    if "judge" not in metadata:
        return None
    try:
        card = Card(**json.loads(metadata["judge"]))
        card = Card(
            str(card.arch),
            tuple(map(str, card.labels)),
            int(card.size),
            tuple(map(float, card.mean)),
            tuple(map(float, card.std)),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"The 'judge' metadata of {file} can't be read ({error}).") from error
    if card.arch != arch:
        raise UserError(f"{file} holds a {card.arch}, not a {arch}: name that in the spec.")
    return card


def read_labels(file: Path) -> tuple[str, ...] | None:
    """The names of a judge's outputs, one a line, from ``FILE.labels.txt``; None without it.

    Raises:
        UserError: no text, an empty file, or a name that comes twice.
    """
    beside = file.with_name(f"{file.name}.labels.txt")
    if not beside.exists():
        return None
    lines = read_text(beside, "The labels file").splitlines()
    names = tuple(line.strip() for line in lines if line.strip())
    if not names or len(set(names)) < len(names):
        raise UserError(f"{beside} must hold one label a line, each once, in the outputs' order.")
    return names


def read_weights(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a weights file; never executes a pickle."""
    if file.suffix not in SUFFIXES:
        raise UserError(f"{file} is no weights file: give one of {', '.join(SUFFIXES)}.")
    if file.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(file, "pt") as opened:
                names = list(opened.keys())
                tensors = {name: opened.get_tensor(name) for name in names}
                return tensors, dict(opened.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise UserError(f"{file} can't be read as safetensors ({error}).") from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes the library raise
        raise UserError(
            f"{file} is damaged or holds more than plain tensors, which is never executed: "
            "convert it to .safetensors."
        ) from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{file} holds no state dict of tensors: save the model's state_dict().")
    return state, {}
