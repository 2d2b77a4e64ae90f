"""Stable Diffusion 1 models as one file in the original (CompVis) layout, both ways.

Tensors are carried over one to one, dtypes and bits kept. A file written here also carries the
pipeline's configs as JSON in its metadata, so that a model of any size opens again offline; a
foreign one is read by SD 1's own conventions (``sd_config``).
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erase.errors import UserError
from erase.files import atomic
from erase.layout import (
    INDEX,
    NETWORKS,
    PICKLES,
    WEIGHTS,
    canonical,
    components,
    fitting,
    read_state,
    read_tensors,
    save_tensors,
    skeleton,
    whole_folder,
    write_state,
)
from erase.sd_config import infer
from erase.sd_keys import TEXT, UNET, VAE, is_attention_matrix, rename, unet_table, vae_table

METADATA = "erase.pipeline"
KEPT = (*NETWORKS, "tokenizer", "scheduler")
"""Components that a single file stands for; others (safety checker) stay behind."""

_PATH = re.compile(r"model_index\.json|(unet|vae|text_encoder|tokenizer|scheduler)/\w+\.(json|txt)")
_VOCABULARY = ("vocab.json", "merges.txt", "tokenizer.json")

# What training leaves in a checkpoint beside the weights: schedules, the loss, averaged copies.
_REST_PREFIXES = ("model_ema.", "first_stage_model.loss.")
_REST = frozenset(
    """betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod sqrt_one_minus_alphas_cumprod
    log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod sqrt_recipm1_alphas_cumprod
    posterior_variance posterior_log_variance_clipped posterior_mean_coef1 posterior_mean_coef2
    lvlb_weights logvar scale_factor""".split()
)


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        file: the new file.
        tensors: how many.
        moved: denoiser weights that differ from the base; None without a base to compare with.
        kept: of those, how many still differ once stored in the file's precision.
    """

    file: Path
    tensors: int
    moved: int | None = None
    kept: int | None = None

    def __str__(self) -> str:
        text = f"{self.file}: {self.tensors} tensors"
        if self.moved is None or self.kept is None:
            return text
        share = f" ({self.kept / self.moved:.1%})" if self.moved else ""
        return f"{text}; {self.kept:,} of {self.moved:,} moved weights{share} survive the rounding"


def export_single_file(
    folder: Path,
    file: Path,
    dtype: torch.dtype | None = None,
    base: Mapping[str, Tensor] | None = None,
) -> Exported:
    """Writes a pipeline folder as one safetensors file in the original key layout.

    Args:
        folder: a Stable Diffusion 1 pipeline.
        file: written whole or not at all.
        dtype: of the floating-point weights; None keeps each tensor's own.
        base: the denoiser before the erasure, to count the moved weights that survive ``dtype``.

    Raises:
        UserError: no such pipeline, or one that the layout has no names for.
    """
    components(folder)
    _check_text_encoder(folder)
    moved = kept = 0
    out: dict[str, Tensor] = {}
    for component in NETWORKS:
        state = read_state(folder, component)
        fitting(skeleton(folder, component), component, state, str(folder))
        if component == "unet" and base is not None and not _same_shapes(base, state):
            raise UserError(f"{folder} does not fit the base model: give the one it came from.")
        for name, theirs in _names(folder, component, list(state)).items():
            value = saved = state[name]
            if dtype is not None and value.is_floating_point():
                saved = value.to(dtype)
                if not torch.isfinite(saved).all():
                    raise UserError(f"'{name}' does not fit into {dtype}: export it in fp32.")
            if component == "unet" and base is not None:
                before = base[name]
                moved += int((value.float() != before.float()).sum())
                kept += int((saved != before.to(saved.dtype)).sum())
            out[theirs] = _convolution(theirs, saved)
    metadata = {METADATA: json.dumps(_configs(folder), ensure_ascii=False, sort_keys=True)}
    with atomic(file) as part:
        save_tensors(part, out, metadata)
    return Exported(file, len(out), *((moved, kept) if base is not None else ()))


def import_single_file(file: Path, folder: Path, config: Path | None = None) -> None:
    """Writes a single file in the original key layout as a diffusers folder.

    Args:
        file: safetensors, or a pickle of plain tensors.
        folder: new, or a pipeline that is replaced; written whole or not at all.
        config: pipeline folder that states the model's configuration, where the file does not.

    Raises:
        UserError: the file is no whole Stable Diffusion 1 model.
    """
    with whole_folder(folder) as part:
        for component, state in unpack(file, part, config).items():
            write_state(part / component / WEIGHTS[component], state)


def unpack(file: Path, folder: Path, config: Path | None = None) -> dict[str, dict[str, Tensor]]:
    """Writes a single file's configs, tokenizer and scheduler into a folder.

    Args:
        file, config: see ``import_single_file``.
        folder: exists and is empty.

    Returns:
        By component, the tensors in the dtypes stored, under diffusers' names.

    Raises:
        UserError: the file is no whole Stable Diffusion 1 model.
    """
    state = read_tensors(file)
    if config is not None:
        _copy_configs(config, folder)
    else:
        _write_configs(file, state, folder)
    components(folder)
    left = {k for k in state if k not in _REST and not k.startswith(_REST_PREFIXES)}
    parts: dict[str, dict[str, Tensor]] = {}
    for component in NETWORKS:
        parts[component] = {}
        for ours, theirs in _original(folder, component, state).items():
            parts[component][ours] = _matrix(component, theirs, state[theirs])
            left.discard(theirs)
    if left:
        few = ", ".join(f"'{k}'" for k in sorted(left)[:3])
        raise UserError(
            f"{file} has {len(left)} tensors that Stable Diffusion 1's layout has no place for "
            f"(first {few}): give a model in that layout."
        )
    for component, tensors in parts.items():
        fitting(skeleton(folder, component), component, tensors, str(file))
    return parts


def _same_shapes(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return {n: v.shape for n, v in a.items()} == {n: v.shape for n, v in b.items()}


def _check_text_encoder(folder: Path) -> None:
    config = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    if config.get("hidden_act", "quick_gelu") != "quick_gelu":
        raise UserError(
            f"{folder} has the text encoder of Stable Diffusion 2, which Stable Diffusion 1's file "
            "layout has no place for: keep the diffusers folder."
        )


def _table(folder: Path, component: str) -> dict[str, str]:
    config = json.loads((folder / component / "config.json").read_text(encoding="utf-8"))
    if component == "unet":
        return {a: UNET + b for a, b in unet_table(config).items()}
    if component == "vae":
        return {a: VAE + b for a, b in vae_table(config).items()}
    return {"text_model": f"{TEXT}text_model"}


def _names(folder: Path, component: str, names: list[str]) -> dict[str, str]:
    """diffusers -> original names of a component's tensors."""
    table = _table(folder, component)
    found = {name: rename(name, table) for name in names}
    lost = [name for name, theirs in found.items() if theirs is None]
    if lost:
        raise UserError(
            f"The original Stable Diffusion layout has no place for '{lost[0]}' of the {component} "
            f"({len(lost)} tensors in all): keep the diffusers folder."
        )
    return {name: theirs for name, theirs in found.items() if theirs is not None}


def _original(folder: Path, component: str, state: Mapping[str, Tensor]) -> dict[str, str]:
    """diffusers -> original names of those tensors of a file that belong to a component."""
    table = {b: a for a, b in _table(folder, component).items()}
    found = {}
    for theirs in state:
        if component == "text_encoder" and theirs.startswith(TEXT):
            found[canonical(component, theirs.removeprefix(TEXT))] = theirs
        elif (ours := rename(theirs, table)) is not None:
            found[ours] = theirs
    return found


def _convolution(theirs: str, value: Tensor) -> Tensor:
    linear = theirs.startswith(VAE) and is_attention_matrix(theirs)
    return value.reshape(*value.shape[:2], 1, 1) if linear else value


def _matrix(component: str, theirs: str, value: Tensor) -> Tensor:
    convolution = component == "vae" and is_attention_matrix(theirs) and value.ndim == 4
    return value.reshape(value.shape[:2]) if convolution else value


def _configs(folder: Path) -> dict[str, str]:
    """Text of the pipeline's files other than weights, by path; CLIP's own vocabulary left out."""
    index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    for name, value in index.items():
        if isinstance(value, list) and name not in KEPT:
            index[name] = [None, None]
    index["requires_safety_checker"] = False
    texts = {INDEX: json.dumps(index)}
    own = not _has_clip_vocabulary(folder / "tokenizer")
    for component in KEPT:
        for file in sorted((folder / component).iterdir()):
            path = f"{component}/{file.name}"
            if _PATH.fullmatch(path) and (own or file.name not in _VOCABULARY):
                texts[path] = file.read_text(encoding="utf-8")
    return texts


def _has_clip_vocabulary(folder: Path) -> bool:
    from erase.mini.models import build_tokenizer

    with tempfile.TemporaryDirectory() as place:
        build_tokenizer(Path(place))
        return _vocabulary(folder) == _vocabulary(Path(place))


def _vocabulary(folder: Path) -> dict[str, int]:
    try:
        if (file := folder / "vocab.json").is_file():
            return dict(json.loads(file.read_text(encoding="utf-8")))
        file = folder / "tokenizer.json"  # what transformers writes from version 5 on
        return dict(json.loads(file.read_text(encoding="utf-8"))["model"]["vocab"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            f"The tokenizer in {folder} can't be read ({error}): restore it."
        ) from error


def _write_configs(file: Path, state: Mapping[str, Tensor], folder: Path) -> None:
    from erase.mini.models import build_tokenizer

    texts = _metadata(file)
    if texts is None:
        texts = {
            path: json.dumps(value, indent=2) for path, value in infer(state, str(file)).items()
        }
    if not any(f"tokenizer/{name}" in texts for name in _VOCABULARY):
        build_tokenizer(folder / "tokenizer")
    for path, text in texts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def _metadata(file: Path) -> dict[str, str] | None:
    """The configs in a file's metadata; paths that would lead out of the folder are refused."""
    from safetensors import safe_open

    if file.suffix in PICKLES:
        return None
    with safe_open(file, framework="pt") as opened:
        text = (opened.metadata() or {}).get(METADATA)
    if text is None:
        return None
    try:
        texts = json.loads(text)
        valid = all(isinstance(v, str) and _PATH.fullmatch(k) for k, v in texts.items())
    except (ValueError, AttributeError):
        valid = False
    if not valid:
        raise UserError(f"{file} has unreadable pipeline metadata: export it again.")
    return {str(k): str(v) for k, v in texts.items()}


def _copy_configs(config: Path, folder: Path) -> None:
    components(config)
    for path, text in _configs(config).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    for name in _VOCABULARY:
        if (source := config / "tokenizer" / name).is_file():
            shutil.copyfile(source, folder / "tokenizer" / name)
