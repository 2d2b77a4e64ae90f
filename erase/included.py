"""Models that others erased, whatever they were saved as, beside the base they came from."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.errors import UserError, nearest
from erase.files import digest, sha256, write_text
from erase.job import EVALUATION_KEYS, SAMPLING_KEYS
from erase.layout import INDEX, networks, read_state, read_tensors, weight_files
from erase.recipe import Recipe, as_dict
from erase.sd_keys import UNET

if TYPE_CHECKING:
    from torch import Tensor

    from erase.checkpoint import Base

PREFIX = "unet."
METHOD = "included"
"""What a report gives as the method of such a model."""


@cache
def identity(path: Path) -> str:
    """Hash of the files that make up a model."""
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return digest([[str(f.relative_to(path)) if f != path else "", sha256(f)] for f in files])


def settings(recipe: Recipe, path: Path) -> dict[str, Any]:
    """What a report can say of the model in place of a recipe: how its images are made."""
    flat = as_dict(recipe)
    shown = {key: flat[key] for key in ("name", *SAMPLING_KEYS, *EVALUATION_KEYS)}
    return {**shown, "method": METHOD, "file": path.name}


def place(path: Path, base: Base, run: Path) -> None:
    """Writes the model into a run folder as if it had been trained there."""
    from erase.checkpoint import save_model

    save_model(base, included_state(path, base), run / "model")
    write_text(run / "train.jsonl", "")


def included_state(path: Path, base: Base) -> dict[str, Tensor]:
    """The whole denoiser of an erased model, fp32, by parameter name.

    Accepted are a diffusers pipeline or its ``unet`` folder, a single file in the original key
    layout, a delta file, and a state dict by diffusers' names, whole (SalUn's ``.pt``) or of the
    trained weights alone (ESD's ``.safetensors``), the rest of which is the base's.

    Args:
        path: of the model.
        base: what it was erased from.

    Raises:
        UserError: nothing there, not plain tensors, another architecture than the base's, or a
            pipeline that differs from it in more than the denoiser.
    """
    from erase.checkpoint import FILES
    from erase.delta import apply_delta, is_delta

    before = base.denoiser_state()
    whole = True
    if path.is_dir():
        if (path / INDEX).exists():
            found = _pipeline(path, base)
        else:
            files = weight_files(path).values()
            found = {k: v for f in files if f.suffix != ".json" for k, v in read_tensors(f).items()}
    elif not path.is_file():
        raise UserError(f"There is no model {path}: give a folder or a file.")
    elif path.suffix not in FILES:
        raise UserError(f"{path} is no model file: give one of {', '.join(FILES)}.")
    elif path.suffix == ".safetensors" and is_delta(path):
        found = apply_delta(path, before)
    else:
        found = read_tensors(path)
        whole = any(name.startswith(UNET) for name in found)
        if whole:
            found = _pipeline(path, base)
    found = {name.removeprefix(PREFIX): value for name, value in found.items()}
    _check(path, found, before)
    if whole and (lost := sorted(before.keys() - found.keys())):
        raise UserError(f"{path} lacks the weight '{lost[0]}': give the whole model.")
    return {name: found.get(name, value).float() for name, value in before.items()}


def _check(path: Path, found: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    if not found:
        raise UserError(f"{path} holds no weights: give an erased model.")
    for name, value in found.items():
        if name not in before:
            raise UserError(
                f"{path} does not fit the base model, which has no weight '{name}'."
                f"{nearest(name, before)} Give a model that was erased from this base."
            )
        if value.shape != before[name].shape:
            raise UserError(
                f"{path} does not fit the base model: '{name}' is {tuple(value.shape)} there and "
                f"{tuple(before[name].shape)} here. Give a model that was erased from this base."
            )


def _pipeline(path: Path, base: Base) -> dict[str, Tensor]:
    """The denoiser of a whole pipeline, of which nothing else may differ from the base's."""
    from erase.checkpoint import open_base

    with _parts(base) as (place, before):
        prediction = _prediction(place)
        theirs = open_base(str(path))
        if not path.is_dir():  # which does not say
            theirs = replace(theirs, prediction=prediction)
        with _parts(theirs) as (other, found):
            if _prediction(other) != prediction:
                raise UserError(
                    f"{path} predicts '{_prediction(other)}' and the base model '{prediction}': "
                    "give a model that was erased from this base."
                )
            for name in before.keys() - {"unet"}:
                if name not in found or not _same(before[name], found[name]):
                    raise UserError(
                        f"{path} has another {name} than the base model, and a comparison looks at "
                        "denoisers alone: make its images with 'erase generate --model "
                        f"{path} --set …' and measure them with 'erase eval --images'."
                    )
            return dict(found["unet"])


@contextmanager
def _parts(base: Base) -> Iterator[tuple[Path, Mapping[str, Mapping[str, Tensor]]]]:
    """A folder with the pipeline's configurations, and its tensors by component."""
    if base.path.is_dir():
        yield base.path, {name: read_state(base.path, name) for name in networks(base.path)}
        return
    with tempfile.TemporaryDirectory() as place:
        yield Path(place), base.unpack(Path(place))


def _prediction(folder: Path) -> str:
    file = folder / "scheduler" / "scheduler_config.json"
    return str(json.loads(file.read_text(encoding="utf-8")).get("prediction_type", "epsilon"))


def _same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Whether two networks are equal, but for the precision that one of them was saved in."""
    if {name for name in ours if "position_ids" not in name} - theirs.keys():
        return False
    for name in ours.keys() & theirs.keys():
        a, b = ours[name], theirs[name]
        coarse = min((a.dtype, b.dtype), key=lambda dtype: dtype.itemsize)
        if a.shape != b.shape or not bool((a.to(coarse) == b.to(coarse)).all()):
            return False
    return True
