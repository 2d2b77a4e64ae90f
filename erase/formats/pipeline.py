"""Diffusers pipelines in and out: a model opened, and an erased one written as a folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from erase.formats.base import LICENCES, Base, open_base, quiet
from erase.formats.configs import read_json
from erase.formats.folder import (
    NO_WEIGHT,
    canonical,
    components,
    copy_component,
    fitting,
    index_of,
    layout_of,
    read_index,
    read_state,
    settle_precision,
    skeleton,
    write_states,
)
from erase.formats.foreign import erased_state
from erase.formats.generation import classes_of
from erase.formats.layouts import INDEX, layouts
from erase.formats.tokenizers import open_tokenizer
from erase.runtime.errors import UserError, clipped, reason
from erase.runtime.files import whole_folder

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def load_pipeline(spec: str, dtype: torch.dtype = torch.float32) -> DiffusionPipeline:
    """Opens a model for use, without its safety checker.

    Every weight comes from the files: missing, unknown or misshapen ones are errors, never
    replaced by random values.

    Args:
        spec: see ``open_base``.
        dtype: of all networks but the autoencoder, which overflows in half precision.

    Raises:
        UserError: there is no such model, or it is damaged.
    """
    base = open_base(spec)
    if base.path.is_dir():
        return _assemble(base.path, lambda name: read_state(base.path, name), dtype, spec)
    with tempfile.TemporaryDirectory() as place:
        states = base.unpack(Path(place))
        return _assemble(Path(place), states.pop, dtype, spec)


def apply_edit(pipeline: DiffusionPipeline, source: str, edit: Path, strength: float) -> None:
    """Changes an opened pipeline as a file says, in place.

    Args:
        pipeline: of ``source``.
        source: see ``open_base``.
        edit: file of what an erasure changed in it, such as a LoRA.
        strength: see ``foreign.erased_state``.

    Raises:
        UserError: see there.
    """
    state = erased_state(edit, open_base(source), strength)
    for component, own in layouts()[type(pipeline).__name__].split(state).items():
        network = getattr(pipeline, component)
        names = {canonical(component, name): name for name in network.state_dict()}
        found = {names[name]: value for name, value in own.items() if name != NO_WEIGHT}
        network.load_state_dict(found)


def _assemble(
    folder: Path, take: Callable[[str], dict[str, Tensor]], dtype: torch.dtype, source: str
) -> DiffusionPipeline:
    """A pipeline with the folder's configs, tokenizers and scheduler.

    Args:
        folder: of the configs.
        take: hands over a component's tensors, which are let go of one by one.
        dtype: see ``load_pipeline``.
        source: what the model is called in messages.
    """
    import diffusers

    layout = layout_of(folder)
    built: dict[str, Any] = {}
    with quiet():
        for component in layout.networks:
            network: Any = skeleton(folder, component)
            own = fitting(network, component, take(component), source)
            stored = torch.float32 if component == "vae" else dtype
            # Copies: a tensor that is still mapped to its file must never be trained.
            values = {name: own.pop(name).to(stored, copy=True) for name in list(own)}
            network.load_state_dict(values, assign=True)
            built[component] = network
        for name in layout.tokenizers:
            built[name] = open_tokenizer(folder, name)
        # Built part by part: what else a folder names (a safety checker, an image encoder) is
        # never opened.
        pipeline: Any = getattr(diffusers, layout.pipeline)(
            **built,
            scheduler=_open_scheduler(folder),
            **layout.options(read_index(folder)),
        )
    if classes := classes_of(folder):
        pipeline.classes = classes
    pipeline.set_progress_bar_config(disable=True)
    opened: DiffusionPipeline = pipeline
    return opened


def _open_scheduler(folder: Path) -> Any:
    import diffusers

    kind, place = components(folder)["scheduler"][1], folder / "scheduler"
    known: Any = getattr(diffusers, kind, None)
    fits = isinstance(known, type) and issubclass(known, diffusers.SchedulerMixin)
    if not fits:
        raise UserError(
            f"{folder} has a scheduler of the class {clipped(kind)}, which is not a scheduler "
            "of the installed diffusers: update diffusers, or name another."
        )
    config = read_json(place / "scheduler_config.json")
    try:
        return known.from_config(config)
    except Exception as error:  # whatever a damaged config makes the library raise
        raise UserError(
            f"{place} can't be opened ({reason(error)}): download the model again."
        ) from error


def save_model(base: Base, state: Mapping[str, Tensor], folder: Path) -> None:
    """Writes a model with another denoiser, or other text encoders, as a folder that stock
    diffusers opens.

    Everything else, a safety checker included, is copied from the base as it is, but for the
    precision that configurations state (see ``settle_precision``). A tensor
    of which any weight changed is stored in fp32, since half precision would round small
    edits away; every other one is the base's own, bit by bit. Weights that did not change thus
    equal the base file's in value.

    Args:
        base: the model that was changed.
        state: the new tensors of whole components, fp32, named as ``Layout.joined`` does, on any
            device.
        folder: new, or a pipeline that is replaced; written whole or not at all.

    Raises:
        UserError: ``state`` does not fit the base, or the disk is full.
    """
    index = index_of(base.path) if base.path.is_dir() else INDEX
    with whole_folder(folder, index or INDEX) as part:
        if base.path.is_dir():
            layout = layout_of(base.path)
            new = layout.split(state)
            for name in components(base.path):
                copy_component(base.path / name, part / name, weights=name not in new)
            for file in dict.fromkeys((INDEX, layout.index, *LICENCES)):
                if (base.path / file).is_file():
                    shutil.copyfile(base.path / file, part / file)
            before = {name: read_state(base.path, name) for name in new}
        else:
            states = base.unpack(part)
            new = layout_of(part).split(state)
            before = {name: states.pop(name) for name in new}
            write_states(part, states)
        write_states(part, {name: merged(before[name], own, name) for name, own in new.items()})
        settle_precision(part)


def merged(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], component: str
) -> dict[str, Tensor]:
    """The changed tensors of ``after`` in fp32, and ``before``'s own where nothing changed.

    Raises:
        UserError: the names or shapes differ.
    """
    shapes, own = ({n: v.shape for n, v in s.items() if n != NO_WEIGHT} for s in (before, after))
    if shapes != own:
        raise UserError(
            f"The new {component} does not fit the base model: use the model it came from."
        )
    result = {}
    for name, old in before.items():
        new = after.get(name, old).detach().to("cpu", torch.float32)
        result[name] = old if torch.equal(new, old.float()) else new
    return result
