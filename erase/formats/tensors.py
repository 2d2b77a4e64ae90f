"""Files of tensors: safetensors, and pickles of which nothing is executed."""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erase.formats.inert import Archive, Inert, Stored
from erase.runtime.errors import UserError, clipped, few, reason

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
FILES = (".safetensors", *PICKLES)

_NESTS = ("state_dict", "model_state_dict", "state_dict_ema", "model", "net", "unet")
"""Where programs keep the weights beside an optimizer and the like."""
_BESIDE_UNET = ("text_encoder", "modifier_token")
"""What else than a denoiser published code for custom models may have trained."""
_WRAPPERS = ("module.", "_orig_mod.")
"""Before every name of a model that was saved within DataParallel, or compiled."""
_POINTER = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(file: Path) -> None:
    """Refuses what ``git clone`` leaves in place of a large file.

    Raises:
        UserError: the file is one of git-lfs's pointers.
    """
    with file.open("rb") as opened:
        if opened.read(len(_POINTER)) == _POINTER:
            raise UserError(
                f"{file} is a git-lfs pointer, not the file itself: run 'git lfs pull' in its "
                "folder."
            )


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of a ``.safetensors`` file or of the state dict in a pickle, on the CPU.

    Nothing that a pickle names is executed; objects beside the state dict are passed over.

    Raises:
        UserError: it can't be read, or holds no state dict.
    """
    from safetensors.torch import load_file

    try:
        refuse_pointer(file)
        state = dict(load_file(file)) if _is_safe(file) else _unpickled(file)
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes the libraries raise
        raise UserError(
            f"{file} can't be read ({reason(error)}): it is damaged, or not a file of tensors."
        ) from error
    for name, value in state.items():
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise UserError(
                f"{file} holds '{clipped(name)}' in a form other than plain numbers: save the "
                "weights dense and without quantisation."
            )
    wrapping = _wrapping(state)
    return {name.removeprefix(wrapping): value for name, value in state.items()}


def _is_safe(file: Path) -> bool:
    """Whether a file is read as safetensors: by its name, or, named as a pickle, by what it is."""
    from safetensors import safe_open

    if file.suffix not in PICKLES:
        return True
    try:
        with safe_open(file, "pt"):
            return True
    except Exception:  # whatever a pickle makes the library raise
        return False


def tensor_names(file: Path) -> tuple[str, ...]:
    """Names of a file's tensors; of safetensors, without reading them.

    Raises:
        UserError: it can't be read, or holds no state dict.
    """
    from safetensors import safe_open

    try:
        with safe_open(file, "pt") as opened:
            names = tuple(opened.keys())
    except Exception:  # what is wrong with a damaged file is said where it is read in full
        return _read_names(file, file.stat().st_mtime_ns)
    return tuple(name.removeprefix(_wrapping(names)) for name in names)


@lru_cache(maxsize=8)
def _read_names(file: Path, _: int) -> tuple[str, ...]:
    return tuple(read_tensors(file))


def read_metadata(file: Path) -> dict[str, str]:
    """What a safetensors file states beside its tensors; {} of a pickle.

    Raises:
        UserError: it can't be read.
    """
    from safetensors import safe_open

    if not _is_safe(file):
        return {}
    try:
        with safe_open(file, framework="pt") as opened:
            return dict(opened.metadata() or {})
    except Exception as error:  # whatever a damaged file makes the library raise
        raise UserError(f"{file} can't be read ({reason(error)}): get a new copy.") from error


def _wrapping(names: Collection[str]) -> str:
    """What stands before every name; see ``_WRAPPERS``."""
    found = ""
    while names:
        longer = [found + wrapper for wrapper in _WRAPPERS]
        begun = [w for w in longer if all(name.startswith(w) for name in names)]
        if not begun:
            break
        found = begun[0]
    return found


def _unpickled(file: Path) -> dict[str, Tensor]:
    archived = zipfile.is_zipfile(file)
    if archived:
        with zipfile.ZipFile(file) as opened:
            if any(name.endswith("/constants.pkl") for name in opened.namelist()):
                raise UserError(
                    f"{file} is a TorchScript program, which is not run: save the model's "
                    "state_dict()."
                )
    try:
        with warnings.catch_warnings():  # about pickles that it may not understand
            warnings.simplefilter("ignore")
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        return {name: value.detach() for name, value in _state_dict(loaded, file).items()}
    except pickle.UnpicklingError as error:
        if not archived:
            raise UserError(
                f"{file} holds more than plain tensors, in a format too old to skip the rest: "
                "use its .safetensors version, or save it with PyTorch 1.6 or later."
            ) from error
    archive = Archive.open(file)
    with archive.zip:
        found = _state_dict(archive.content, file)
        return {name: archive.tensor(value) for name, value in found.items()}


def _state_dict(loaded: Any, file: Path) -> dict[str, Any]:
    """The names and tensors in what was saved, however deep.

    Raises:
        UserError: there are none.
    """
    found = loaded
    while isinstance(found, dict):
        key = next((k for k in _NESTS if isinstance(found.get(k), dict)), None)
        if key is None:
            break
        beside = [
            k for k in _BESIDE_UNET if key == "unet" and (_is_tensor(found.get(k)) or found.get(k))
        ]
        if beside:
            raise UserError(
                f"{file} also holds a trained {beside[0]}, but only the denoiser can be used from "
                "such a file: give the complete model as a diffusers folder."
            )
        found = found[key]
    if not isinstance(found, dict) or not found or not all(map(_is_tensor, found.values())):
        raise UserError(
            f"{file} holds {_described(found)}, not a state dict of tensors: save the model's "
            "state_dict()."
        )
    return {str(name): value for name, value in found.items()}


def _is_tensor(value: object) -> bool:
    return isinstance(value, (Tensor, Stored))


def _described(found: object) -> str:
    if isinstance(found, Inert):
        return f"an object of '{clipped(found.what)}'"
    if not isinstance(found, dict):
        return f"'{clipped(type(found).__name__)}'"
    others = [name for name, value in found.items() if not _is_tensor(value)]
    return f"a dictionary with {few(others, 2)}" if others else "an empty dictionary"


def save_tensors(file: Path, state: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    """Writes safetensors; the same tensors and metadata give the same bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    own: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in state.items():
        tensor = value.contiguous()
        # Tied weights and views of a pickle; safetensors stores each on its own.
        at = tensor.untyped_storage().data_ptr()
        own[name] = tensor.clone() if at in places else tensor
        places.add(at)
    file.touch()  # its permissions are the user's umask's; the library's are the owner's alone
    mode = file.stat().st_mode
    try:
        save_file(own, file, metadata)
        file.chmod(mode)
    except SafetensorError as error:
        if told := re.search(r"os error (\d+)\)", str(error)):
            number = int(told[1])
            raise OSError(number, os.strerror(number), str(file)) from error
        raise
    if len(metadata) > 1:
        _sort_metadata(file)


def _sort_metadata(file: Path) -> None:
    """Puts a file's metadata, which the library writes in random order, in that of the keys."""
    with file.open("r+b") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > size:
            raise ValueError(f"the header of {file} grew from {size} to {len(text)} bytes")
        opened.seek(8)
        opened.write(text.ljust(size))


def write_state(file: Path, state: Mapping[str, Tensor]) -> None:
    """Writes a component's weights as safetensors; the same weights give the same bytes."""
    save_tensors(file, state, {"format": "pt"})
