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
    PICKLES,
    WEIGHTS,
    components,
    fitting,
    networks,
    read_state,
    read_tensors,
    save_tensors,
    skeleton,
    tokenizers,
    whole_folder,
    write_state,
)
from erase.sd_config import infer
from erase.sd_layout import from_original, to_original

METADATA = "erase.pipeline"
SCHEDULER = "scheduler/scheduler_config.json"

_PATH = re.compile(
    r"model_index\.json|(unet|vae|text_encoder(_2)?|tokenizer(_2)?|scheduler)/\w+\.(json|txt)"
)
_VOCABULARY = ("vocab.json", "merges.txt", "tokenizer.json")

# What training leaves in a checkpoint beside the weights: schedules, the loss, averaged copies.
_REST_PREFIXES = ("model_ema.", "first_stage_model.loss.")
_REST = frozenset(
    """betas alphas_cumprod alphas_cumprod_prev sqrt_alphas_cumprod sqrt_one_minus_alphas_cumprod
    log_one_minus_alphas_cumprod sqrt_recip_alphas_cumprod sqrt_recipm1_alphas_cumprod
    denoiser.sigmas v_pred ztsnr posterior_variance posterior_log_variance_clipped
    posterior_mean_coef1 posterior_mean_coef2 lvlb_weights logvar scale_factor""".split()
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
        folder: a Stable Diffusion pipeline.
        file: written whole or not at all.
        dtype: of the floating-point weights; None keeps each tensor's own.
        base: the denoiser before the erasure, to count the moved weights that survive ``dtype``.

    Raises:
        UserError: no such pipeline, or one that the layout has no names for.
    """
    moved = kept = 0
    out: dict[str, Tensor] = {}
    for component in networks(folder):
        state = read_state(folder, component)
        fitting(skeleton(folder, component), component, state, str(folder))
        if component == "unet" and base is not None and not _same_shapes(base, state):
            raise UserError(f"{folder} does not fit the base model: give the one it came from.")
        stored = {}
        for name, value in state.items():
            saved = value
            if dtype is not None and value.is_floating_point():
                saved = value.to(dtype)
                if not torch.isfinite(saved).all():
                    raise UserError(f"'{name}' does not fit into {dtype}: export it in fp32.")
            if component == "unet" and base is not None:
                before = base[name]
                moved += int((value.float() != before.float()).sum())
                kept += int((saved != before.to(saved.dtype)).sum())
            stored[name] = saved
        out |= to_original(folder, component, stored)
    metadata = {METADATA: json.dumps(_configs(folder), ensure_ascii=False, sort_keys=True)}
    with atomic(file) as part:
        save_tensors(part, out, metadata)
    return Exported(file, len(out), *((moved, kept) if base is not None else ()))


def import_single_file(
    file: Path, folder: Path, config: Path | None = None, prediction: str | None = None
) -> None:
    """Writes a single file in the original key layout as a diffusers folder.

    Args:
        file: safetensors, or a pickle of plain tensors.
        folder: new, or a pipeline that is replaced; written whole or not at all.
        config: pipeline folder that states the model's configuration, where the file does not.
        prediction: ``epsilon`` or ``v_prediction``, where neither says so.

    Raises:
        UserError: the file is no whole Stable Diffusion model.
    """
    with whole_folder(folder) as part:
        for component, state in unpack(file, part, config, prediction).items():
            write_state(part / component / WEIGHTS[component], state)


def unpack(
    file: Path, folder: Path, config: Path | None = None, prediction: str | None = None
) -> dict[str, dict[str, Tensor]]:
    """Writes a single file's configs, tokenizer and scheduler into a folder.

    Args:
        file, config, prediction: see ``import_single_file``.
        folder: exists and is empty.

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
    components(folder)
    left = {k for k in state if k not in _REST and not k.startswith(_REST_PREFIXES)}
    parts: dict[str, dict[str, Tensor]] = {}
    for component in networks(folder):
        parts[component], used = from_original(folder, component, state)
        left -= used
    if left:
        few = ", ".join(f"'{k}'" for k in sorted(left)[:3])
        raise UserError(
            f"{file} has {len(left)} tensors that Stable Diffusion's layout has no place for "
            f"(first {few}): give a model in that layout."
        )
    for component, tensors in parts.items():
        fitting(skeleton(folder, component), component, tensors, str(file))
    return parts


def _same_shapes(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return {n: v.shape for n, v in a.items()} == {n: v.shape for n, v in b.items()}


def _configs(folder: Path) -> dict[str, str]:
    """Text of the pipeline's files other than weights, by path; CLIP's own vocabulary left out."""
    index: dict[str, Any] = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    kept = (*networks(folder), *tokenizers(folder), "scheduler")
    for name, value in index.items():
        if isinstance(value, list) and name not in kept:
            index[name] = [None, None]
    if "requires_safety_checker" in index:
        index["requires_safety_checker"] = False
    texts = {INDEX: json.dumps(index)}
    own = not all(_has_clip_vocabulary(folder / name) for name in tokenizers(folder))
    for component in kept:
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


def _write_configs(
    file: Path, state: Mapping[str, Tensor], folder: Path, prediction: str | None
) -> None:
    from erase.mini.models import build_tokenizer

    texts = _metadata(file)
    if texts is None:
        inferred = infer(state, str(file), prediction)
        texts = {path: json.dumps(value, indent=2) for path, value in inferred.items()}
    elif prediction is not None:
        scheduler = json.loads(texts[SCHEDULER]) | {"prediction_type": prediction}
        texts[SCHEDULER] = json.dumps(scheduler, indent=2)
    if not any(f"tokenizer/{name}" in texts for name in _VOCABULARY):
        build_tokenizer(folder / "tokenizer")
        if any(path.startswith("tokenizer_2/") for path in texts):
            build_tokenizer(folder / "tokenizer_2")
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


def says_what_it_is(file: Path) -> bool:
    """Whether a single file carries its configurations, as ours do."""
    return _metadata(file) is not None


def _copy_configs(config: Path, folder: Path) -> None:
    components(config)
    for path, text in _configs(config).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    for place in tokenizers(config):
        for name in _VOCABULARY:
            if (source := config / place / name).is_file():
                shutil.copyfile(source, folder / place / name)
