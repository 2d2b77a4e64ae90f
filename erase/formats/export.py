"""``erase export``: diffusers folder <-> single file, and delta files."""

from __future__ import annotations

from pathlib import Path

from erase.runtime.errors import UserError

DTYPES = {"keep": None, "fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


def export(
    source: str,
    target: str,
    *,
    dtype: str = "keep",
    delta: bool = False,
    base: str | None = None,
    overwrite: bool = False,
) -> str:
    """Converts a model; which way is told by what ``source`` and ``target`` are.

    - folder -> ``.safetensors``: a single file in the original SD key layout, or, with ``delta``,
      the weights that differ from ``base``;
    - single file -> folder: a diffusers folder;
    - delta file -> folder: ``base`` with the delta applied.

    Args:
        source: mini, a hub id, a diffusers folder, a single file (``FILE@v_prediction`` and the
            like, see ``open_base``) or a delta file.
        target: new, or replaced with ``overwrite``.
        dtype: of a single file's weights: ``keep``, ``fp16``, ``bf16`` or ``fp32``.
        delta: write a delta.
        base: the model that a delta belongs to; beside ``dtype``, what moved is counted against it.
        overwrite: replace an existing target.

    Returns:
        One line that says what was written.

    Raises:
        UserError: nothing there, a target that exists, or options that don't go together.
    """
    import torch

    from erase.formats.base import Base, open_base
    from erase.formats.delta import apply_delta, is_delta, save_delta
    from erase.formats.folder import read_denoiser
    from erase.formats.foreign import another_part
    from erase.formats.pipeline import save_model
    from erase.formats.single_file import export_single_file, import_single_file

    origin, goal = Path(source), Path(target)
    if goal.exists() and not overwrite:
        raise UserError(f"{goal} exists: add --overwrite or choose another target.")
    to_file = goal.suffix == ".safetensors"
    config, prediction = None, None
    if source == "mini" or not origin.exists():
        named = open_base(source)
        origin, config, prediction = named.path, named.config, named.prediction
    if origin.is_dir() != to_file:
        raise UserError(
            "An export goes from a folder to a .safetensors file, or from a file to a folder: "
            f"{source} -> {target} is neither."
        )
    if not to_file and dtype != "keep":
        raise UserError("--dtype is for single files: a folder keeps the file's own.")
    if to_file and delta:
        if base is None:
            raise UserError("--delta needs --base, the model that the other was made from.")
        if dtype != "keep":
            raise UserError("--dtype does not go with --delta, which keeps new values in fp32.")
        before = open_base(base)
        part = another_part(Base(source, origin), before)
        if part is not None:
            raise UserError(
                f"A delta holds the denoiser alone, and {source} has another {part} than {base}: "
                "export the whole model, without --delta."
            )
        count = save_delta(goal, before.denoiser_state(), read_denoiser(origin))
        return f"{goal}: {count:,} moved weights"
    if to_file:
        name = DTYPES[dtype]
        stored = getattr(torch, name) if name else None
        known = open_base(base).denoiser_state() if base else None
        return str(export_single_file(origin, goal, stored, known))
    if is_delta(origin):
        if base is None:
            raise UserError(f"{source} is a delta: add --base, the model that it belongs to.")
        found = open_base(base)
        after = apply_delta(origin, found.denoiser_state())
        save_model(found, {k: v.float() for k, v in after.items()}, goal)
        return f"{goal}: {base} with the delta applied"
    if delta:
        raise UserError(f"{source} is not a delta file: leave out --delta to unpack a single file.")
    import_single_file(origin, goal, open_base(base).path if base else config, prediction)
    return f"{goal}: a diffusers folder"
