"""Where a pipeline's components lie in a file of the original layout, per kind of model.

Stable Diffusion 1, 2 and XL name the denoiser and the autoencoder alike; they differ in their text
encoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from erase.formats.configs import read_json
from erase.formats.folder import canonical, layout_of
from erase.formats.original.keys import (
    UNET,
    VAE,
    is_attention_matrix,
    rename,
    unet_table,
    vae_table,
)
from erase.formats.original.open_clip import from_open_clip, to_open_clip
from erase.runtime.errors import UserError, few


@dataclass(frozen=True)
class Text:
    """A text encoder's place in the file.

    Attributes:
        prefix: of its tensors.
        open_clip: whether it is in OpenCLIP's layout instead of CLIP's.
        spare: blocks at its end that a file may have and the model does not use.
        projects: whether the model reads its pooled text, projected.
    """

    prefix: str
    open_clip: bool = False
    spare: int = 0
    projects: bool = False


KINDS: Mapping[str, Mapping[str, Text]] = {
    "1": {"text_encoder": Text("cond_stage_model.transformer.")},
    "2": {"text_encoder": Text("cond_stage_model.model.", open_clip=True, spare=1)},
    "XL": {
        "text_encoder": Text("conditioner.embedders.0.transformer."),
        "text_encoder_2": Text("conditioner.embedders.1.model.", open_clip=True, projects=True),
    },
}
"""By kind of Stable Diffusion, its text encoders."""


def kind_of_folder(folder: Path) -> str:
    """Which generation a pipeline folder is: one of ``KINDS``, or what its family calls it."""
    return layout_of(folder).generation(lambda name: read_json(folder / name))


def kind_of_state(state: Mapping[str, object], source: str) -> str:
    """Which of ``KINDS`` a file is.

    Raises:
        UserError: none of them.
    """
    for kind, texts in KINDS.items():
        if all(any(n.startswith(text.prefix) for n in state) for text in texts.values()):
            return kind
    raise UserError(
        f"{source} is not a complete Stable Diffusion 1, 2 or XL model in the original layout (no "
        "text encoder was found): give one with denoiser, autoencoder and text encoders, or a "
        "diffusers folder."
    )


def to_original(
    folder: Path, component: str, network: nn.Module, state: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors of a component's ``network``, by diffusers' names, under the original ones.

    Raises:
        UserError: the layout has no place for one of them.
    """
    text = _texts(folder).get(component)
    if text is not None:
        named = to_open_clip(state) if text.open_clip else state
        return {text.prefix + name: value for name, value in named.items()}
    table = _table(component, network)
    found = {name: rename(name, table) for name in state}
    lost = [name for name, theirs in found.items() if theirs is None]
    if lost:
        raise UserError(
            f"The original Stable Diffusion layout has no place for {few(lost)} of the "
            f"{component}: keep the diffusers folder."
        )
    return {
        theirs: _convolution(theirs, state[ours])
        for ours, theirs in found.items()
        if theirs is not None
    }


def from_original(
    folder: Path, component: str, network: nn.Module, state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], set[str]]:
    """Those tensors of a file that belong to a component's ``network``, under diffusers' names.

    Returns:
        The tensors, and the names in ``state`` that the component accounts for.
    """
    text = _texts(folder).get(component)
    if text is not None:
        own = {n.removeprefix(text.prefix): n for n in state if n.startswith(text.prefix)}
        values = {n: state[theirs] for n, theirs in own.items()}
        if not text.open_clip:
            return {canonical(component, n): v for n, v in values.items()}, set(own.values())
        config: Any = network.config
        layers = int(config.num_hidden_layers)
        found, known = from_open_clip(values, layers, text.spare, text.projects)
        return found, {own[n] for n in known}
    table = {b: a for a, b in _table(component, network).items()}
    out, used = {}, set()
    for theirs, value in state.items():
        if (ours := rename(theirs, table)) is not None:
            out[ours] = _matrix(component, theirs, value)
            used.add(theirs)
    return out, used


def _texts(folder: Path) -> Mapping[str, Text]:
    kind = kind_of_folder(folder)
    if kind not in KINDS:
        raise UserError(f"A model like {folder} has no single-file layout: keep the folder.")
    return KINDS[kind]


def _table(component: str, network: nn.Module) -> dict[str, str]:
    config: Any = network.config
    if component == "unet":
        return {a: UNET + b for a, b in unet_table(config).items()}
    return {a: VAE + b for a, b in vae_table(config).items()}


def _convolution(theirs: str, value: Tensor) -> Tensor:
    linear = theirs.startswith(VAE) and is_attention_matrix(theirs)
    return value.reshape(*value.shape[:2], 1, 1) if linear else value


def _matrix(component: str, theirs: str, value: Tensor) -> Tensor:
    convolution = component == "vae" and is_attention_matrix(theirs) and value.ndim == 4
    return value.reshape(value.shape[:2]) if convolution else value
