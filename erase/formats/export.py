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
    flag: str | None = None,
    base: str | None = None,
    overwrite: bool = False,
) -> str:
    """Converts a model; which way is told by what ``source`` and ``target`` are.

    - folder -> ``.safetensors``: a single file in the original SD key layout, or, with the flag
      ``delta``, the weights that differ from ``base``;
    - single file -> folder: a diffusers folder;
    - delta file, or a denoiser's state dict -> folder: ``base`` with it applied.

    Which suffixes there are is the formats' affair, see ``formats.Format``.

    Args:
        source: mini, a hub id, a diffusers folder, a single file (``FILE@v_prediction`` and the
            like, see ``open_base``) or a delta file.
        target: new, or replaced with ``overwrite``.
        dtype: of a single file's weights: ``keep``, ``fp16``, ``bf16`` or ``fp32``.
        flag: of the format, where the suffix alone does not say which.
        base: the model that a delta belongs to; beside ``dtype``, what moved is counted against it.
        overwrite: replace an existing target.

    Returns:
        One line that says what was written.

    Raises:
        UserError: nothing there, a target that exists, or options that don't go together.
    """
    from erase.formats import How, targets
    from erase.formats.base import MINI, Base, open_base

    goal = Path(target)
    if goal.exists() and not overwrite:
        raise UserError(f"{goal} exists: add --overwrite or choose another target.")
    suffix = goal.suffix if any(goal.suffix == form.WRITES for form in targets()) else ""
    model = Base(source, Path(source))
    if source == MINI or not model.path.exists():
        model = open_base(source)
    if model.path.is_dir() == (not suffix):
        raise UserError(
            "An export turns a folder into a .safetensors file, or a file into a folder, and "
            f"{source} -> {target} does not: choose another target."
        )
    if not suffix and dtype != "keep":
        raise UserError(
            "--dtype has no effect on a folder, which keeps the file's own: leave it out."
        )
    asked = [form for form in targets() if flag and flag == form.FLAG]
    if not suffix and asked and not asked[0].reads(model.path):
        raise UserError(
            f"{source} is not a {flag} file: leave out --{flag} to unpack a single file."
        )
    wanted = flag if suffix else None
    fit = [form for form in targets() if (suffix, wanted) == (form.WRITES, form.FLAG)]
    if not fit and flag:
        raise UserError(f"--{flag} can't be used with a {suffix} file: leave it out.")
    if not fit:
        [needed] = (form.FLAG for form in targets() if suffix == form.WRITES)
        raise UserError(f"A {suffix} file needs --{needed}: add it.")
    return fit[0].write(model, goal, How(DTYPES[dtype], open_base(base) if base else None))
