"""Weights files of judges: plain tensors, with a card that says how to use them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from erase.formats.tensors import read_metadata, read_tensors
from erase.runtime.errors import UserError, clipped, reason
from erase.runtime.tables import read_text

SUFFIXES = (".safetensors", ".pth", ".pt")
"""Suffixes of the weights files that can be read."""


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
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"The 'judge' metadata of {file} can't be read ({reason(error)})."
        ) from error
    if card.arch != arch:
        raise UserError(
            f"{file} holds a {clipped(card.arch)}, not a {arch}: name that in the spec."
        )
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
        raise UserError(
            f"{beside} must hold one label per line, each once, in the order of the outputs."
        )
    return names


def read_weights(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a weights file; nothing that a pickle names is executed.

    Raises:
        UserError: it can't be read, or holds no state dict.
    """
    if file.suffix not in SUFFIXES:
        raise UserError(f"{file} is not a weights file: give one of {', '.join(SUFFIXES)}.")
    return read_tensors(file), read_metadata(file)
