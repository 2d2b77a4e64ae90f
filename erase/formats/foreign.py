"""Models that others erased, whatever they were saved as, beside the base they came from."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.formats import format_of
from erase.formats.configs import read_json
from erase.formats.folder import layout_of, networks, read_state, tokenizers
from erase.formats.generation import classes_of
from erase.formats.layouts import PARTS, part_of
from erase.formats.tokenizers import open_tokenizer
from erase.runtime.errors import UserError, clipped, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from erase.formats.base import Base

_PREFIX = re.compile(r"^(unet|transformer)\.")
"""Of a denoiser's weights that were saved as a part of their pipeline."""


def included_state(path: Path, base: Base, strength: float = 1.0) -> dict[str, Tensor]:
    """``erased_state`` of a model of which the denoiser alone was moved.

    Raises:
        UserError: see there; or its text encoder was moved.
    """
    found = erased_state(path, base, strength)
    if any(part_of(name) == "text_encoder" for name in found):
        raise _swaps_the_denoiser("text_encoder", str(path))
    return found


def _swaps_the_denoiser(part: str, model: str) -> UserError:
    return UserError(
        f"The {part} of {model} differs from the base model's, but a comparison only swaps the "
        f"denoiser: make its images with 'erase generate --model {model} --set …' and measure "
        "them with 'erase eval --images'."
    )


def erased_state(path: Path, base: Base, strength: float = 1.0) -> dict[str, Tensor]:
    """What was moved of an erased model as a whole, the denoiser or its text encoders, fp32, named
    as ``Layout.joined`` does.

    Every format is accepted, also of the trained weights alone, the rest of which is the base's. A
    weight that differs from the base's by no more than the precision it was saved in has not moved.

    Args:
        path: of the model.
        base: what it was erased from.
        strength: s of θ0 + s·(θ − θ0), any finite number; 0 is the base and 1 the model, bit by
            bit.

    Raises:
        UserError: nothing there, not plain tensors, another architecture than the base's, or a
            whole pipeline that differs from it in more than the denoiser.
    """
    if not path.exists():
        raise UserError(f"There is no model {path}: give a folder or a file.")
    form = format_of(path)
    found = {_PREFIX.sub("", name): value for name, value in form.read(path, base).items()}
    before = base.state(*({*map(part_of, found)} or PARTS[:1]))
    _check(path, found, before)
    if form.WHOLE and (lost := sorted(before.keys() - found.keys())):
        raise UserError(f"{path} lacks the weight '{lost[0]}': give the complete model.")
    state = {
        name: _mixed(_unrounded(found[name], value), value, strength)
        if name in found and strength != 0
        else value.float()
        for name, value in before.items()
    }
    if not all(value.isfinite().all() for value in state.values()):
        raise UserError(
            f"At the strength {strength:g} weights of {path} are not finite: give one near 1."
        )
    return state


def _mixed(theirs: Tensor, ours: Tensor, strength: float) -> Tensor:
    """θ0 + s·(θ − θ0), with what has not moved left alone."""
    return theirs if strength == 1 else ours.float() + strength * (theirs - ours.float())


def _unrounded(theirs: Tensor, ours: Tensor) -> Tensor:
    """Their weight in fp32, and the base's own value wherever theirs is that, rounded."""
    import torch

    if theirs.dtype == ours.dtype or theirs.dtype.itemsize > ours.dtype.itemsize:
        return theirs.float()
    return torch.where(theirs == ours.to(theirs.dtype), ours.float(), theirs.float())


def _check(path: Path, found: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> None:
    if not found:
        raise UserError(f"{path} holds no weights: give an erased model.")
    if all("lora" in name.removeprefix("lora_unet_").lower() for name in found):
        raise UserError(
            f"{path} is a LoRA whose layers are not named as in kohya's ('lora_unet_…'): convert "
            "it, or merge it into the base and give the complete model."
        )
    if all(name.startswith(("lora_unet_", "lora_te")) for name in found):
        raise UserError(
            f"{path} is an adapter of a kind that is not supported, such as LoHa or LoKr: merge it "
            "into the base and give the complete model."
        )
    for name, value in found.items():
        if name not in before:
            raise UserError(
                f"{path} does not fit the base model, which has no weight '{clipped(name)}'."
                f"{nearest(name, before)} Give a model that was erased from this base."
            )
        if value.shape != before[name].shape:
            raise UserError(
                f"{path} does not fit the base model: '{name}' is {tuple(value.shape)} there and "
                f"{tuple(before[name].shape)} here. Give a model that was erased from this base."
            )
        _check_finite(str(path), name, value)


def _check_finite(model: str, name: str, value: Tensor) -> None:
    # 8-bit floats can't be asked.
    if not (value.float() if value.dtype.itemsize == 1 else value).isfinite().all():
        raise UserError(
            f"{model} has weights that are not finite, in '{clipped(name)}': its training went "
            "wrong, or the file is damaged."
        )


def before_and_after(
    model: Base, base: Base | None, what: str, text: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The parts that may differ of a base and of a model made from it, named as ``Layout.joined``
    does.

    Args:
        model: a pipeline, or a file of what an erasure changed.
        base: see above.
        what: is to hold the difference, in messages.
        text: whether it can hold text encoders beside the denoiser.

    Raises:
        UserError: no base, or the model differs from it in more than that.
    """
    if base is None:
        raise UserError(f"A {what} needs --base, the model that the erased one was made from.")
    if model.path.is_file() and not (text and format_of(model.path).WHOLE):
        after = (erased_state if text else included_state)(model.path, base)
        return base.state(*{*map(part_of, after)}), after
    apart = f"A {what} needs two models of the same architecture: give the model's own base."
    if _shapes(base.state(*PARTS[:1])) != _shapes(model.state(*PARTS[:1])):
        raise UserError(apart)
    beside = others(model, base)
    if lost := [name for name in beside if not text or part_of(name) != "text_encoder"]:
        held = "the denoiser and text encoders" if text else "the denoiser"
        also = all(part_of(name) == "text_encoder" for name in lost)
        raise UserError(
            f"A {what} holds only {held}, but the {lost[0]} of {model.spec} differs from that of "
            f"{base.spec}: export the whole model, with --format single"
            f"{', or --format delta' if also else ''}."
        )
    parts = PARTS if beside else PARTS[:1]
    before, after = base.state(*parts), model.state(*parts)
    if _shapes(before) != _shapes(after):
        raise UserError(apart)
    for name, value in after.items():
        _check_finite(model.spec, name, value)
    # What a folder's precision rounded off has not moved.
    return before, {name: _unrounded(value, before[name]) for name, value in after.items()}


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def denoiser_beside(model: Base, base: Base) -> dict[str, Tensor]:
    """The denoiser of a whole pipeline, of which nothing else may differ from the base's.

    Raises:
        UserError: something does.
    """
    with _parts(base) as (place, before), _parts(model) as (other, found):
        _check_kind(place, other, model.spec)
        if names := _others((place, before), (other, found)):
            raise _swaps_the_denoiser(names[0], model.spec)
        return dict(found[layout_of(place).denoiser])


def _check_kind(place: Path, other: Path, spec: str) -> None:
    """Refuses the model ``spec`` in ``other`` where it is not what the base in ``place`` is, but
    for its weights."""
    if layout_of(place).denoiser != layout_of(other).denoiser:
        raise UserError(
            f"{spec} is another kind of model than the base model: give one that was erased from "
            "this base."
        )
    ours, own = ({**_built(at), **_decisive(at)} for at in (place, other))
    for key, value in ours.items():
        if not _alike(own.get(key, value), value):
            raise UserError(
                f"{spec} has the {key} {own[key]}, but the base model has {value}: give a model "
                "that was erased from this base."
            )
    told, theirs = classes_of(place), classes_of(other)
    if told and theirs and told.names != theirs.names:
        raise UserError(
            f"The classes of {spec} are not the base model's, or not in its order: give a model "
            "that was erased from this base."
        )


def prediction_of(base: Base) -> str:
    """What a model predicts, as its scheduler says: ``epsilon``, ``v_prediction`` …"""
    with _parts(base) as (place, _):
        return str(_decisive(place)["prediction_type"])


def others(model: Base, base: Base) -> list[str]:
    """The components beside the denoiser that differ between two models.

    Raises:
        UserError: one of them can't be read, or they are not built or sampled from alike.
    """
    with _parts(base) as ours, _parts(model) as theirs:
        _check_kind(ours[0], theirs[0], model.spec)
        return _others(ours, theirs)


_Parts = tuple[Path, Mapping[str, Mapping[str, "Tensor"]]]


def _others(ours: _Parts, theirs: _Parts) -> list[str]:
    (place, before), (other, found) = ours, theirs
    own = layout_of(place).denoiser
    differ = [
        name
        for name in before
        if name != own and (name not in found or not _same(before[name], found[name]))
    ]
    for name in tokenizers(place):
        if not (other / name).is_dir():
            differ.append(name)
            continue
        alike = _contents(place / name) == _contents(other / name)  # opening them takes longer
        if not alike and _words(place, name) != _words(other, name):
            differ.append(name)
    return differ


def _words(folder: Path, name: str) -> dict[str, int]:
    words: dict[str, int] = open_tokenizer(folder, name).get_vocab()
    return words


def _contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


@contextmanager
def _parts(base: Base) -> Iterator[_Parts]:
    """A folder with the pipeline's configurations, and its tensors by component."""
    if base.path.is_dir():
        yield base.path, {name: read_state(base.path, name) for name in networks(base.path)}
        return
    with tempfile.TemporaryDirectory() as place:
        yield Path(place), base.unpack(Path(place))


DECISIVE: Mapping[str, Mapping[str, Any]] = {
    "scheduler": {
        "prediction_type": "epsilon",
        "num_train_timesteps": 1000,
        "beta_start": 0.0001,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "rescale_betas_zero_snr": False,
    },
    "vae": {"scaling_factor": 0.18215},
}
"""What configurations decide beside the weights, with diffusers' defaults."""


def _decisive(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for component, defaults in DECISIVE.items():
        if not (folder / component).is_dir():
            continue  # no autoencoder: a model in pixels
        name = "scheduler_config.json" if component == "scheduler" else "config.json"
        told = read_json(folder / component / name)
        found |= {key: told.get(key, default) for key, default in defaults.items()}
    return found


def _built(folder: Path) -> dict[str, Any]:
    """How a denoiser is built, some of which its weights' shapes don't tell."""
    told = read_json(folder / layout_of(folder).denoiser / "config.json")
    return {k: v for k, v in told.items() if not k.startswith("_") and not k.endswith("dtype")}


def _alike(a: object, b: object) -> bool:
    """Whether two settings are the same; one for all blocks may be written as one for each."""
    if isinstance(a, list) and not isinstance(b, list):
        return all(one == b for one in a)
    return _alike(b, a) if isinstance(b, list) and not isinstance(a, list) else a == b


def _same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    """Whether two networks are equal, but for the precision that they were saved in."""
    if {name for name in ours if "position_ids" not in name} - theirs.keys():
        return False
    return all(_equal(ours[name], theirs[name]) for name in ours.keys() & theirs.keys())


def _equal(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    import torch

    if a.dtype.itemsize == b.dtype.itemsize and a.dtype != b.dtype:  # half and bfloat16
        return bool(torch.allclose(a.float(), b.float(), rtol=2**-7, atol=2**-24))
    coarse = min((a.dtype, b.dtype), key=lambda dtype: dtype.itemsize)
    return bool((a.to(coarse) == b.to(coarse)).all())
