"""The diffusers folder layout on disk: one folder per component, weights beside their config."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from erase.errors import UserError

if TYPE_CHECKING:
    from torch import nn

INDEX = "model_index.json"
_SD: Mapping[str, tuple[str, str]] = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "text_encoder": ("transformers", "CLIPTextModel"),
}
_SDXL = {**_SD, "text_encoder_2": ("transformers", "CLIPTextModelWithProjection")}
PIPELINES: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "StableDiffusionPipeline": _SD,
    "StableDiffusionXLPipeline": _SDXL,
}
"""By pipeline class, the components that have weights and are always there, with their classes."""

WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "text_encoder_2": "model.safetensors",
}
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_WEIGHT_SUFFIXES = (".safetensors", *PICKLES, ".msgpack", ".h5", ".onnx", ".index.json")

# The attention of autoencoders saved before diffusers 0.17, as in SD 1.4's own folder.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_NO_WEIGHT = "text_model.embeddings.position_ids"


def components(folder: Path) -> dict[str, tuple[str, str]]:
    """The pipeline's components that are not null, with library and class.

    Raises:
        UserError: no Stable Diffusion pipeline, or a component's folder is missing.
    """
    index = _read_index(folder)
    kind = str(index.get("_class_name"))
    if kind not in PIPELINES:
        raise UserError(
            f"{folder} holds a '{kind}': supported are Stable Diffusion 1, 2 and XL "
            f"({', '.join(PIPELINES)})."
        )
    found = {
        name: (str(value[0]), str(value[1]))
        for name, value in index.items()
        if isinstance(value, list) and len(value) == 2 and all(value)
    }
    for name, expected in PIPELINES[kind].items():
        if found.get(name) != expected:
            raise UserError(
                f"{folder} has no {name} of the class {expected[1]}: give a Stable Diffusion "
                "pipeline."
            )
    for name in (*_tokenizers(kind), "scheduler"):
        if found.get(name, ("",))[0] not in ("transformers", "diffusers"):
            raise UserError(
                f"{folder} has no {name} that is known: give a Stable Diffusion pipeline."
            )
    for name in found:
        if not (folder / name).is_dir():
            raise UserError(
                f"{folder} lacks the component '{name}' of its {INDEX}: restore the folder, or "
                "set an optional component to [null, null] there."
            )
    return found


def networks(folder: Path) -> tuple[str, ...]:
    """The components of a pipeline folder that have weights.

    Raises:
        UserError: no Stable Diffusion pipeline.
    """
    return tuple(PIPELINES[pipeline_class(folder)])


def tokenizers(folder: Path) -> tuple[str, ...]:
    """The tokenizers of a pipeline folder, one per text encoder."""
    return _tokenizers(pipeline_class(folder))


def pipeline_class(folder: Path) -> str:
    """The pipeline's class, one of ``PIPELINES``.

    Raises:
        UserError: no Stable Diffusion pipeline.
    """
    components(folder)
    return str(_read_index(folder)["_class_name"])


def _tokenizers(kind: str) -> tuple[str, ...]:
    return tuple(
        name.replace("text_encoder", "tokenizer") for name in PIPELINES[kind] if "text" in name
    )


def _read_index(folder: Path) -> dict[str, Any]:
    file = folder / INDEX
    if not file.is_file():
        raise UserError(f"{folder} is no pipeline (it has no {INDEX}): give a diffusers folder.")
    try:
        index = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} can't be read ({error}): restore the model.") from error
    if not isinstance(index, dict):
        raise UserError(f"{file} is no pipeline's index: restore the model.")
    return index


def weight_files(folder: Path) -> dict[str, Path]:
    """The files that hold a component's weights, by the names that diffusers opens by default.

    Safetensors go before pickles, full files before a variant (``model.fp16.safetensors``).

    Raises:
        UserError: there are none, or only several variants.
    """
    for stem in _STEMS:
        if (file := folder / f"{stem}.safetensors").exists():
            return {file.name: file}
    for stem in _STEMS:
        if (index := folder / f"{stem}.safetensors.index.json").exists():
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            return {name: folder / name for name in (index.name, *sorted(shards))}
    for stem in _STEMS:
        if (file := folder / f"{stem}.bin").exists():
            return {file.name: file}
    variants = [
        (stem, file)
        for stem in _STEMS
        for file in folder.glob(f"{stem}.*.safetensors")
        if "non_ema" not in file.name
    ]
    if len(variants) == 1:
        stem, file = variants[0]
        return {f"{stem}.safetensors": file}
    raise UserError(f"{folder} has no weights (model.safetensors or similar): restore the model.")


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a ``.safetensors`` file or a pickle of plain tensors, on the CPU.

    Raises:
        UserError: it can't be read, or would need a pickle to be executed.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix not in PICKLES:
            return dict(load_file(file))
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{file} holds more than plain tensors, and pickles that could run code are never "
            "opened: use its .safetensors version."
        ) from error
    except (OSError, SafetensorError, EOFError, RuntimeError, LookupError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file} can't be read ({reason}): restore the file.") from error
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{file} is no state dict of tensors: give a model's weights.")
    return {str(k): v.detach() for k, v in state.items()}


def read_state(folder: Path, component: str) -> dict[str, Tensor]:
    """A component's tensors in the dtypes stored, by today's names (see ``canonical``)."""
    state: dict[str, Tensor] = {}
    for file in weight_files(folder / component).values():
        if not file.name.endswith(".index.json"):
            state |= read_tensors(file)
    return {canonical(component, name): value for name, value in state.items()}


def canonical(component: str, name: str) -> str:
    """A weight's name as published checkpoints (text encoder) and today's diffusers (VAE) have it.

    transformers from 5.6 on writes text encoders without the prefix ``text_model.``.
    """
    if component.startswith("text_encoder"):
        bare = name.startswith(("text_model.", "text_projection."))
        return name if bare else f"text_model.{name}"
    if component == "vae" and ".attentions." in name:
        stem, old, kind = name.rsplit(".", 2)
        return f"{stem}.{_OLD_ATTENTION.get(old, old)}.{kind}"
    return name


def write_state(file: Path, state: Mapping[str, Tensor]) -> None:
    """Writes a component's weights as safetensors; the same weights give the same bytes.

    Raises:
        UserError: the disk is full.
    """
    save_tensors(file, state, {"format": "pt"})


def save_tensors(file: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes safetensors with one metadata entry (more would come out in random order)."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        save_file({k: v.contiguous() for k, v in state.items()}, file, metadata)
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device", str(file)) from error
        raise


def copy_component(source: Path, target: Path, weights: bool = True) -> None:
    """Copies a component's files byte for byte.

    Of the weights, only those that diffusers opens by default come along, under the name that it
    looks for: a second copy (variant, pickle) would be larger than its use, and of a denoiser the
    model before the erasure.

    Args:
        source, target: component folders.
        weights: False leaves the weights to the caller.
    """
    files = {f.name: f for f in source.iterdir() if f.is_file() and not _is_weight(f.name)}
    if weights and any(_is_weight(f.name) for f in source.iterdir()):
        files |= weight_files(source)
    target.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        shutil.copyfile(file, target / name)


def _is_weight(name: str) -> bool:
    return name.endswith(_WEIGHT_SUFFIXES)


def skeleton(folder: Path, component: str) -> nn.Module:
    """A component's network without values (meta tensors), as its config describes it.

    Raises:
        UserError: the config can't be read.
    """
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    place = folder / component
    network: nn.Module
    try:
        with init_empty_weights(include_buffers=False):
            if component.startswith("text_encoder"):
                config = CLIPTextConfig.from_pretrained(place, local_files_only=True)
                projected = component == "text_encoder_2"
                network = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
            else:
                kind = UNet2DConditionModel if component == "unet" else AutoencoderKL
                network = kind.from_config(kind.load_config(place, local_files_only=True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{place} can't be opened ({reason}): restore the model.") from error
    return network.eval()


def fitting(
    network: nn.Module, component: str, state: Mapping[str, Tensor], source: str
) -> dict[str, Tensor]:
    """The tensors under the network's own names.

    Raises:
        UserError: tensors are missing, left over or of another shape.
    """
    own = {canonical(component, n): n for n in network.state_dict()}
    shapes = {n: v.shape for n, v in network.state_dict().items()}
    for what, names in (
        ("lacks", [n for n in own if n not in state]),
        ("has unknown", [n for n in state if n not in own and n != _NO_WEIGHT]),
        ("has misshapen", [n for n in own if n in state and state[n].shape != shapes[own[n]]]),
    ):
        if names:
            few = ", ".join(f"'{n}'" for n in names[:3])
            raise UserError(
                f"{source} {what} {component} tensors ({len(names)}, first {few}): it does not "
                "fit its configuration, give a whole Stable Diffusion model."
            )
    return {own[n]: v for n, v in state.items() if n in own}


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder beside ``folder`` that takes its place when the block ends well.

    An older pipeline there is replaced.

    Raises:
        UserError: something else is there, or the disk is full.
    """
    folder = folder.resolve()
    if folder.exists():
        foreign = not folder.is_dir() or (any(folder.iterdir()) and not (folder / INDEX).is_file())
        if foreign:
            raise UserError(f"{folder} exists and is no pipeline: choose another folder.")
    part = folder.with_name(f".{folder.name}.part")
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # killed between the two renames below
        os.replace(old, folder)
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(part, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(
                f"No space left on the disk while writing {folder}: free some and run again."
            ) from error
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
