"""What a column of a prompt set means: one table of the names that the field's files use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from erase.runtime.errors import UserError, clipped

_ORIGINS = ("", "sd_", "evaluation_", "eval_", "image_", "img_", "sd_image_", "generation_", "gen_")


def _of(*roots: str) -> tuple[str, ...]:
    return tuple(origin + root for root in roots for origin in _ORIGINS)


NAMES: Mapping[str, tuple[str, ...]] = {
    "prompt": ("prompt",),
    "case": ("case_number", "case_num", "case_no"),
    "seed": (
        *_of("seed", "seeds"),
        "random_seed",
        "manual_seed",
        "noise_seed",
        "global_seed",
        "rng",
    ),
    "guidance": _of("guidance", "guidance_scale", "cfg", "cfg_scale"),
    "width": _of("width", "w"),
    "height": _of("height", "h"),
    "size": _of("size", "resolution"),
    "file": (
        *("file", "file_name", "filename", "file_path", "filepath", "path"),
        *("image_file", "image_filename", "image_path", "img_path"),
    ),
    # Numbers, unless a column says 'case'; never what an image shows.
    "id": ("id", "index", "idx", "case", "case_id", "prompt_id", "prompt_number"),
    # Of how the images were made; nothing here can follow them.
    "idle": (
        *("steps", "num_steps", "num_inference_steps", "ddim_steps", "sampling_steps"),
        *("sampler", "scheduler", "negative_prompt", "neg_prompt"),
    ),
    "nameless": ("", "unnamed:_0"),
}
"""By meaning, the names that are understood, without regard to case, spaces and hyphens."""
TEXTS = ("prompts", "text", "texts", "caption", "captions", "text_prompt", "sentence")
"""Names of the prompts where no column is called so."""
_MEANING = {name: meaning for meaning, names in NAMES.items() for name in names}
_LIKE = {"seed", "seeds", "guidance", "cfg", "width", "height", "size", "resolution"}


def plain(column: str) -> str:
    """A column's name as the table has it: ``Image Width`` and ``imageWidth`` as image_width."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.strip())
    return re.sub(r"[\s.-]+", "_", apart).lower()


def meanings(columns: Iterable[str], what: str) -> dict[str, list[str]]:
    """The columns by meaning; under ``label`` those that say what an image shows.

    Args:
        columns: of a prompt set.
        what: the file is called in messages.

    Raises:
        UserError: no prompts, several columns that may be them, a name that comes twice, or one
            that looks like a seed, a guidance scale or a size and is not in the table.
    """
    found: dict[str, list[str]] = {}
    named: set[str] = set()
    for column in columns:
        name = plain(column)
        meaning = _MEANING.get(name, "label")
        if meaning != "nameless" and column in named:
            raise UserError(f"{what} has the column '{clipped(column)}' twice: remove one.")
        named.add(column)
        if meaning == "label" and (like := _LIKE & set(name.split("_"))):
            (kind, *_) = sorted(like)
            raise UserError(
                f"{what} has the column '{clipped(column)}', which looks like a {kind} but is not "
                f"a name that is known: call it {_advice(kind)}, or rename it if it is a label."
            )
        found.setdefault(meaning, []).append(column)
    prompts = found.get("prompt", [])
    if not prompts:
        prompts = [c for c in found.get("label", []) if plain(c) in TEXTS]
        found["label"] = [c for c in found.get("label", []) if c not in prompts]
    shown = clipped(", ".join(sorted(named - {""})[:8]), 200)
    if not prompts:
        raise UserError(f"{what} has no 'prompt' column, only {shown}: add one.")
    if len(prompts) > 1:
        several = clipped(", ".join(prompts), 200)
        raise UserError(
            f"{what} has several columns that could be the prompt ({several}): call one 'prompt'."
        )
    return {**found, "prompt": prompts}


def _advice(kind: str) -> str:
    names = {"cfg": "guidance", "seeds": "seed", "resolution": "size"}
    return {
        "seed": "seed or evaluation_seed",
        "guidance": "guidance_scale",
        "width": "width or sd_image_width",
        "height": "height or sd_image_height",
        "size": "size, or width and height",
    }[names.get(kind, kind)]
