"""The diffusers folder layout on disk: one folder per component, weights beside their config."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from erase.formats.configs import indices, read_json, refuse_code
from erase.formats.layouts import INDEX, Layout, Part, layouts
from erase.formats.tensors import PICKLES, read_tensors, write_state
from erase.runtime.errors import UserError, clipped, few, reason
from erase.runtime.files import is_plain

if TYPE_CHECKING:
    from torch import nn

_WEIGHT_SUFFIXES = (".safetensors", *PICKLES, ".msgpack", ".h5", ".onnx")
_WEIGHT = re.compile(
    r"(diffusion_pytorch_model|model|pytorch_model)(?:\.(\w+))?\.(safetensors|bin)"
    r"(?:(?:\.(\w+))?(?P<index>\.index)(?:\.(\w+))?\.json)?"
)
"""A whole file, or the index of shards; libraries have put the variant in three places."""

LIBRARIES = ("diffusers", "transformers")
SAFETY_CHECKER = ("stable_diffusion", "StableDiffusionSafetyChecker")
_WANTED = "pipeline of one of the supported families"

# The attention of autoencoders saved before diffusers 0.17, as in SD 1.4's own folder.
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
NO_WEIGHT = "text_model.embeddings.position_ids"


def components(folder: Path) -> dict[str, tuple[str, str]]:
    """The pipeline's components that are not null, with library and class.

    Whatever opens a folder asks here first: one that could make a library run Python is refused.

    Raises:
        UserError: no Stable Diffusion pipeline, a component's folder is missing, or one is of a
            class of its own.
    """
    index = read_index(folder)
    kind = str(index.get("_class_name"))
    if "_class_name" not in index:
        raise UserError(
            f"The {INDEX} of {folder} names no pipeline (it has no '_class_name'): give a Stable "
            "Diffusion pipeline."
        )
    layout = layouts().get(kind)
    if layout is None:
        raise UserError(
            f"{folder} holds a '{clipped(kind)}': supported are {', '.join(layouts())}."
        )
    found = {}
    for name, value in index.items():
        if isinstance(value, list) and any(value) and not name.startswith("_"):
            library, named = _component(folder, name, value)
            found[name] = (library, layout.aliases.get(named, named))
    for name, expected in layout.networks.items():
        if found.get(name) != expected:
            raise UserError(f"{folder} has no {name} of the class {expected[1]}: give a {_WANTED}.")
    for name in (*layout.tokenizers, "scheduler"):
        if name not in found:
            raise UserError(f"{folder} has no {name}: give a {_WANTED}.")
    for name in found:
        if not (folder / name).is_dir():
            raise UserError(
                f"{folder} lacks the component '{clipped(name)}' of its {index_of(folder)}: "
                "download it again, or set an optional component to [null, null] there."
            )
    for place in (folder, *(folder / name for name in found)):
        refuse_code(place)
    return found


def _component(folder: Path, name: str, value: list[Any]) -> tuple[str, str]:
    """Library and class of an index entry, if no other code belongs to it."""
    pair = tuple(value) if all(isinstance(v, str) for v in value) else ()
    known = len(pair) == 2 and (pair[0] in LIBRARIES or pair == SAFETY_CHECKER)
    if not known or not pair[1].isidentifier() or not is_plain(name):
        raise UserError(
            f"The {INDEX} of {folder} has the component '{clipped(name, 40)}' of "
            f"{clipped(value)}, which is not a class of diffusers or transformers, and no other "
            "code is run: set it to [null, null] there if the model works without it."
        )
    return pair[0], pair[1]


def networks(folder: Path) -> tuple[str, ...]:
    """The components of a pipeline folder that have weights.

    Raises:
        UserError: no Stable Diffusion pipeline.
    """
    return tuple(layout_of(folder).networks)


def tokenizers(folder: Path) -> tuple[str, ...]:
    """The tokenizers of a pipeline folder, one per text encoder."""
    return layout_of(folder).tokenizers


def layout_of(folder: Path) -> Layout:
    """What a pipeline folder consists of.

    Raises:
        UserError: it holds no pipeline of a known family.
    """
    components(folder)
    return layouts()[str(read_index(folder)["_class_name"])]


def read_parts(folder: Path, *parts: Part) -> dict[str, Tensor]:
    """The tensors of parts of a pipeline folder, named as ``Layout.joined`` does; see
    ``read_state``."""
    layout = layout_of(folder)
    own = [component for part in parts for component in layout.part(part)]
    return layout.joined({component: read_state(folder, component) for component in own})


def index_of(folder: Path) -> str | None:
    """The file that says what pipeline a folder holds; None where it holds none."""
    return next((name for name in indices() if (folder / name).is_file()), None)


def read_index(folder: Path) -> dict[str, Any]:
    """The content of ``model_index.json``, or what it would say of a pipeline that has none."""
    name = index_of(folder)
    if name is None:
        told = folder / "unet" / "config.json"
        if told.is_file() and read_json(told).get("num_class_embeds"):
            raise UserError(
                f"{folder} has no classes.json, which names its classes: write one, as "
                "docs/class-conditional.md shows."
            )
        raise UserError(f"{folder} is not a pipeline (it has no {INDEX}): give a diffusers folder.")
    if name == INDEX:
        return read_json(folder / name)
    layout = next(own for own in layouts().values() if own.index == name)
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json").get("_class_name")
    parts = {component: list(pair) for component, pair in layout.networks.items()}
    return {"_class_name": layout.pipeline, **parts, "scheduler": ["diffusers", str(scheduler)]}


def weight_files(folder: Path) -> dict[str, Path]:
    """The files that hold a component's weights, by the names that diffusers opens by default.

    Safetensors go before pickles, whole files before shards, and full ones before a variant
    (``model.fp16.safetensors``).

    Raises:
        UserError: there are none, or only several variants, or an index that can't be followed.
    """
    found: dict[tuple[str, str, bool], Path] = {}
    for file in sorted(folder.iterdir()):
        if match := _WEIGHT.fullmatch(file.name):
            variant = next((v for v in match.group(2, 4, 6) if v), "")
            if "non_ema" not in variant:
                found.setdefault((match[3], variant, bool(match["index"])), file)
    for suffix in ("safetensors", "bin"):
        for sharded in (False, True):
            if file := found.get((suffix, "", sharded)):  # type: ignore[assignment]
                return _with_shards(file)
    for suffix in ("safetensors", "bin"):
        files = {variant: file for (kind, variant, _), file in found.items() if kind == suffix}
        if len(files) > 1:
            raise UserError(
                f"{folder} has weights only as several variants ({few(files)}): rename one so "
                "that its name has no variant."
            )
        if files:
            return _with_shards(*files.values())
    raise UserError(
        f"{folder} has no weights (model.safetensors or similar): download the model again."
    )


def _with_shards(file: Path) -> dict[str, Path]:
    """A file of weights, or an index with its shards, by their names without a variant."""
    match = _WEIGHT.fullmatch(file.name)
    assert match
    name = f"{match[1]}.{match[3]}"
    if not match["index"]:
        return {name: file}
    told = read_json(file).get("weight_map")
    shards = list(told.values()) if isinstance(told, dict) else []
    strange = [s for s in shards if not is_plain(s) or not s.endswith(f".{match[3]}")]
    if not shards or strange:
        raise UserError(
            f"{file} must name .{match[3]} files beside it"
            f"{f', but names {few(strange)}' if strange else ''}: download the model again."
        )
    return {f"{name}.index.json": file, **{s: file.with_name(s) for s in sorted(set(shards))}}


def read_state(folder: Path, component: str) -> dict[str, Tensor]:
    """A component's tensors in the dtypes stored, by today's names (see ``canonical``)."""
    state: dict[str, Tensor] = {}
    for file in weight_files(folder / component).values():
        if file.suffix != ".json":
            state |= read_tensors(file)
    return {canonical(component, name): value for name, value in state.items()}


def write_states(folder: Path, states: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Writes networks' tensors, by component, into a pipeline folder."""
    layout = layout_of(folder)
    for component, state in states.items():
        write_state(folder / component / layout.weights(component), state)


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


def copy_component(source: Path, target: Path, weights: bool = True) -> None:
    """Copies a component's files byte for byte.

    Of the weights, only those that diffusers opens by default come along, under the name that it
    looks for: a second copy (variant, pickle) would be larger than its use, and of a denoiser the
    model before the erasure. A network's own pickle comes along as safetensors.

    Args:
        source, target: component folders.
        weights: False leaves the weights to the caller.
    """
    files = {
        f.name: f
        for f in source.iterdir()
        if f.is_file() and not _is_weight(f.name) and not f.name.startswith(".")
    }
    target.mkdir(parents=True, exist_ok=True)
    if weights and any(_is_weight(f.name) for f in source.iterdir()):
        found = weight_files(source)
        layout = layout_of(source.parent)
        if source.name in layout.networks and any(f.suffix in PICKLES for f in found.values()):
            state = read_state(source.parent, source.name)
            write_state(target / layout.weights(source.name), state)
        else:
            files |= found
    for name, file in files.items():
        shutil.copyfile(file, target / name)


def settle_precision(folder: Path) -> None:
    """States fp32 for every network of a pipeline that transformers opens.

    It opens them in the precision that their configuration states, or in that of the file where
    none is, and diffusers the others in fp32: left as it is, a pipeline of half-precision files
    can't be called.
    """
    for file in folder.glob("*/config.json"):
        before = read_json(file)
        after = _in_fp32(before)
        if "_class_name" not in after and not {"dtype", "torch_dtype"} & after.keys():
            after["dtype"] = "float32"
        if after != before:
            text = json.dumps(after, indent=2, ensure_ascii=False) + "\n"
            file.write_text(text, encoding="utf-8")


def _in_fp32(config: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for key, value in config.items():
        if isinstance(value, dict):
            value = _in_fp32(value)
        elif key in ("dtype", "torch_dtype") and isinstance(value, str):
            value = "float32"
        found[key] = value
    return found


def _is_weight(name: str) -> bool:
    return name.endswith(_WEIGHT_SUFFIXES) or ".index." in name


def skeleton(folder: Path, component: str, source: str = "") -> nn.Module:
    """A component's network without values (meta tensors), as its config describes it.

    Args:
        folder: of the pipeline.
        component: with weights.
        source: what the user calls the model, where that is not the folder.

    Raises:
        UserError: the config can't be read.
    """
    from accelerate import init_empty_weights

    place, layout = folder / component, layout_of(folder)
    config = read_json(place / "config.json")
    if component == layout.denoiser:
        layout.check(lambda name: read_json(folder / name), source or str(folder))
    library, name = layout.networks[component]
    kind: Any = getattr(import_module(library), name)
    network: nn.Module
    try:
        with init_empty_weights(include_buffers=False):
            if library == "transformers":
                told = kind.config_class.from_pretrained(place, local_files_only=True)
                network = kind(told)
            else:
                network = kind.from_config(config)
    except Exception as error:  # whatever a damaged config makes the libraries raise
        raise UserError(
            f"{place} can't be opened ({reason(error)}): download the model again."
        ) from error
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
        ("lacks tensors", [n for n in own if n not in state]),
        ("has unknown tensors", [n for n in state if n not in own and n != NO_WEIGHT]),
        (
            "has tensors of the wrong shape",
            [n for n in own if n in state and state[n].shape != shapes[own[n]]],
        ),
    ):
        if names:
            raise UserError(
                f"{source} {what} in its {component} ({len(names)}: {few(names)}), so it does not "
                "fit its configuration: give a complete Stable Diffusion model."
            )
    return {own[n]: v for n, v in state.items() if n in own}
