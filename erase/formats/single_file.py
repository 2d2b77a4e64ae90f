"""Stable Diffusion models as one file in the original layout, both ways.

Tensors are carried over one to one, dtypes and bits kept. A file written here also carries the
pipeline's configs as JSON in its metadata, so that a model of any size opens again offline; a
foreign one is read by the published models' own conventions (``sd_config``).
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erase.formats import How
from erase.formats.base import Base
from erase.formats.configs import read_json
from erase.formats.folder import (
    NO_WEIGHT,
    components,
    fitting,
    layout_of,
    networks,
    read_state,
    skeleton,
    tokenizers,
)
from erase.formats.foreign import denoiser_beside, prediction_of
from erase.formats.layouts import INDEX, PARTS
from erase.formats.original.config import V_MARK, VOCABULARY, ZERO_MARK, infer
from erase.formats.original.keys import UNET
from erase.formats.original.layout import from_original, to_original
from erase.formats.tensors import FILES, read_metadata, read_tensors, save_tensors, tensor_names
from erase.formats.tokenizers import VOCABULARIES, open_tokenizer
from erase.runtime.errors import UserError, clipped, few, reason
from erase.runtime.files import atomic
from erase.runtime.notes import Note
from erase.runtime.words import counted

NAME = "single file"
ENDS = FILES
WHOLE = True
WRITES, KIND = ".safetensors", "single"
HELP = "the whole model in one file, for A1111, Forge and ComfyUI"
METADATA = "erase.pipeline"
SCHEDULER = "scheduler/scheduler_config.json"

_PATH = re.compile(r"model_index\.json|\w+/\w+\.(json|txt)")
"""Of a folder's files other than weights; such a name can't lead out of it."""
_VOCABULARY = tuple(name for files in VOCABULARIES for name in files)

# What training leaves in a checkpoint beside the weights: schedules, the loss, averaged copies.
_REST = re.compile(
    r"""(model_ema|first_stage_model\.loss|loss|denoiser|ddim)[._].+|.+\.position_ids|scale_factor
    |(alphas|betas|alphas_cumprod|alphas_cumprod_prev|sqrt_alphas_cumprod)|(log_)?sigmas|logvar
    |(sqrt|log)_one_minus_alphas_cumprod|sqrt_recip(m1)?_alphas_cumprod|lvlb_weights|v_pred|ztsnr
    |posterior_(variance|log_variance_clipped|mean_coef1|mean_coef2)""",
    re.VERBOSE,
)
# What other programs leave there: parts of CLIP that the model does not use, their own settings.
_UNUSED = re.compile(
    r"""(model_sampling|embedding_manager)\..+
    |cond_stage_model\.(transformer\.)?(logit_scale|text_projection(\.weight)?)
    |conditioner\.embedders\.0\.(transformer\.)?(logit_scale|text_projection(\.weight)?)
    |conditioner\.embedders\.1\.(model\.)?logit_scale""",
    re.VERBOSE,
)


def reads(path: Path) -> bool:
    """See ``Format``."""
    if path.suffix not in ENDS or not path.is_file():
        return False
    return any(name.startswith(UNET) for name in tensor_names(path))


def read(path: Path, base: Base) -> dict[str, Tensor]:
    """See ``Format``; a file that does not say what it predicts is taken to do as its base."""
    theirs = Base(str(path), path)
    if _metadata(path) is None:
        told = base.config is not None or V_MARK in tensor_names(path)
        prediction = None if told else prediction_of(base)
        theirs = replace(theirs, config=base.config, prediction=prediction)
    return denoiser_beside(theirs, base)


def write(model: Base, target: Path, how: How) -> str:
    """Tells, beside ``how.base``, how many moved weights survive ``how.dtype``."""
    dtype = getattr(torch, how.dtype) if how.dtype else None
    known = how.base.state(*PARTS) if how.base else None
    return str(export_single_file(model.path, target, dtype, known))


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        file: the new file.
        tensors: how many.
        moved: weights that differ from the base; None without a base to compare with.
        kept: of those, how many still differ once stored in the file's precision.
        learned: tokens beyond CLIP's own, which the file's metadata hold.
    """

    file: Path
    tensors: int
    moved: int | None = None
    kept: int | None = None
    learned: int = 0

    def __str__(self) -> str:
        text = f"{self.file}: {counted(self.tensors, 'tensor')}"
        if self.learned:
            text += f" ({self.learned} learned tokens, which only erase can read from a file)"
        if self.moved is None or self.kept is None:
            return text
        share = f" ({100 * self.kept / self.moved:.1f}\u00a0%)" if self.moved else ""
        return f"{text}; {self.kept:,} of {self.moved:,} moved weights{share} survive the rounding"


def export_single_file(
    folder: Path,
    file: Path,
    dtype: torch.dtype | None = None,
    base: Mapping[str, Tensor] | None = None,
) -> Exported:
    """Writes a pipeline folder as one safetensors file in the original key layout.

    Args:
        folder: a Stable Diffusion pipeline.
        file: written whole or not at all.
        dtype: of the floating-point weights; None keeps each tensor's own.
        base: parts before the erasure, named as ``Layout.joined`` does, to count the moved weights
            that survive ``dtype``.

    Raises:
        UserError: no such pipeline, or one that the layout has no names for.
    """
    moved = kept = 0
    out: dict[str, Tensor] = {}
    known = layout_of(folder).split(base or {})
    for component in networks(folder):
        state = read_state(folder, component)
        network = skeleton(folder, component)
        fitting(network, component, state, str(folder))
        before = known.get(component)
        if before is not None and not _same_shapes(before, state):
            raise UserError(f"{folder} does not fit the base model: give the one it came from.")
        stored = {}
        for name, value in state.items():
            saved = value
            if dtype is not None and value.is_floating_point():
                saved = value.to(dtype)
                if not torch.isfinite(saved).all():
                    raise UserError(
                        f"'{clipped(name)}' does not fit into {dtype}: export it in fp32."
                    )
            if before is not None and name in before:
                moved += int((value.float() != before[name].float()).sum())
                kept += int((saved != before[name].to(saved.dtype)).sum())
            stored[name] = saved
        out |= to_original(folder, component, network, stored)
    out |= {mark: torch.empty(0) for mark in _marks(folder)}
    opened = _tokenizers(folder)
    learned = max(map(len, opened.values())) - VOCABULARY
    texts = _configs(folder, opened)
    metadata = {METADATA: json.dumps(texts, ensure_ascii=False, sort_keys=True)}
    with atomic(file) as part:
        save_tensors(part, out, metadata)
    counted = base is not None
    return Exported(
        file,
        len(out),
        moved if counted else None,
        kept if counted else None,
        max(learned, 0),
    )


def _marks(folder: Path) -> list[str]:
    """Names of the empty tensors that tell other programs what the model predicts."""
    scheduler = read_json(folder / SCHEDULER)
    told = {
        V_MARK: scheduler.get("prediction_type") == "v_prediction",
        ZERO_MARK: bool(scheduler.get("rescale_betas_zero_snr")),
    }
    return [mark for mark, holds in told.items() if holds]


def unpack(
    file: Path, folder: Path, config: Path | None = None, prediction: str | None = None
) -> dict[str, dict[str, Tensor]]:
    """Writes a single file's configs, tokenizer and scheduler into a folder.

    Args:
        file: safetensors, or a pickle of plain tensors.
        folder: exists and is empty.
        config: pipeline folder that states the model's configuration, where the file does not.
        prediction: ``epsilon`` or ``v_prediction``, whatever they say; None takes their word.

    Returns:
        By component, the tensors in the dtypes stored, under diffusers' names.

    Raises:
        UserError: the file is no whole Stable Diffusion model.
    """
    state = read_tensors(file)
    if config is not None:
        _copy_configs(config, folder)
    else:
        _write_configs(file, state, folder, prediction)
    if prediction is not None:
        scheduler = read_json(folder / SCHEDULER) | {"prediction_type": prediction}
        (folder / SCHEDULER).write_text(json.dumps(scheduler, indent=2), encoding="utf-8")
    components(folder)
    if config is not None and set(state) & {V_MARK, ZERO_MARK} - set(_marks(folder)):
        raise UserError(
            f"{file} is marked as a model that predicts the velocity ({V_MARK}, {ZERO_MARK}), but "
            f"the scheduler of {config} does not agree: give the model's own folder."
        )
    built = {name: skeleton(folder, name, str(file)) for name in networks(folder)}
    unused = sorted(name for name in state if _UNUSED.fullmatch(name))
    left = state.keys() - set(unused)
    parts: dict[str, dict[str, Tensor]] = {}
    for component, network in built.items():
        parts[component], used = from_original(
            folder, component, network, {name: state[name] for name in left}
        )
        left = left - used
    left = {name for name in left if not _REST.fullmatch(name)}
    if left:
        raise UserError(
            f"{file} has {len(left)} tensors that Stable Diffusion's layout has no place for "
            f"({few(sorted(left))}): give a model in that layout."
        )
    for component, tensors in parts.items():
        fitting(built[component], component, tensors, str(file))
    if any(name.startswith("model_ema.diffusion") for name in state):
        warnings.warn(
            f"{file} also holds averaged weights (model_ema): as other tools do, the others are "
            "taken.",
            Note,
            stacklevel=2,
        )
    if unused:
        warnings.warn(
            f"{file} also holds {few(unused)}, which the model does not use: ignored.",
            Note,
            stacklevel=2,
        )
    return parts


def _same_shapes(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    shapes, own = ({n: v.shape for n, v in s.items() if n != NO_WEIGHT} for s in (a, b))
    return shapes == own


def _configs(folder: Path, opened: Mapping[str, Any]) -> dict[str, str]:
    """Text of the pipeline's files other than weights, by path; CLIP's own vocabulary left out.

    ``opened`` are its tokenizers.
    """
    from erase.formats.original.tokenizer import tokenizer_config

    index = read_json(folder / INDEX)
    kept = (*networks(folder), *tokenizers(folder), "scheduler")
    for name, value in index.items():
        if isinstance(value, list) and name not in kept:
            index[name] = [None, None]
    if "requires_safety_checker" in index:
        index["requires_safety_checker"] = False
    texts = {INDEX: json.dumps(index)}
    usual = _clip_vocabulary()
    own = any(tokenizer.get_vocab() != usual for tokenizer in opened.values())
    try:
        for component in kept:
            for file in sorted((folder / component).iterdir()):
                path = f"{component}/{file.name}"
                if _PATH.fullmatch(path) and (own or file.name not in _VOCABULARY):
                    texts[path] = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} can't be read ({reason(error)}): download the model again."
        ) from error
    for name, tokenizer in opened.items():
        settings = tokenizer_config(tokenizer.pad_token)
        texts.setdefault(f"{name}/tokenizer_config.json", json.dumps(settings, indent=2))
    return texts


def _tokenizers(folder: Path) -> dict[str, Any]:
    return {name: open_tokenizer(folder, name) for name in tokenizers(folder)}


@cache
def _clip_vocabulary() -> dict[str, int]:
    from erase.formats.original.tokenizer import build_tokenizer

    with tempfile.TemporaryDirectory() as place:
        return dict(build_tokenizer(Path(place)).get_vocab())


def _write_configs(
    file: Path, state: Mapping[str, Tensor], folder: Path, prediction: str | None
) -> None:
    from erase.formats.original.tokenizer import build_tokenizer

    texts = _metadata(file)
    if texts is None:
        inferred = infer(state, str(file), prediction)
        texts = {path: json.dumps(value, indent=2) for path, value in inferred.items()}
    if not any(f"tokenizer/{name}" in texts for name in _VOCABULARY):
        told = {path.partition("/")[0] for path in texts if path.startswith("tokenizer")}
        for name in {"tokenizer", *told}:
            build_tokenizer(folder / name)
    for path, text in texts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def _metadata(file: Path) -> dict[str, str] | None:
    """The configs in a file's metadata; paths that would lead out of the folder are refused."""
    text = read_metadata(file).get(METADATA)
    if text is None:
        return None
    try:
        texts = json.loads(text)
        valid = all(isinstance(v, str) and _PATH.fullmatch(k) for k, v in texts.items())
    except (ValueError, AttributeError, RecursionError):
        valid = False
    if not valid:
        raise UserError(f"{file} has unreadable pipeline metadata: export it again.")
    return {str(k): str(v) for k, v in texts.items()}


def _copy_configs(config: Path, folder: Path) -> None:
    components(config)
    for path, text in _configs(config, _tokenizers(config)).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    for place in tokenizers(config):
        for name in _VOCABULARY:
            if (source := config / place / name).is_file():
                shutil.copyfile(source, folder / place / name)
