"""``erase export``: a model, or what its erasure changed, from one format into another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from erase.runtime.errors import UserError
from erase.runtime.files import MODELS
from erase.runtime.notes import note

if TYPE_CHECKING:
    from erase.formats import Target
    from erase.formats.base import Base

ROUND = ("fp16", "bf16")
DTYPES = {"keep": None, "fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}


class Origin(NamedTuple):
    """What a run says that its model was erased from; None where there is no run.

    Attributes:
        source: as the user called it.
        fingerprint: of its denoiser.
    """

    source: str | None = None
    fingerprint: str | None = None


UNKNOWN = Origin()


def export(
    source: str,
    target: str,
    *,
    kind: str | None = None,
    dtype: str = "keep",
    base: str | None = None,
    origin: Origin = UNKNOWN,
    options: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> str:
    """Converts a model.

    Args:
        source: mini, a hub id, a diffusers folder, a single file (``FILE@v_prediction`` and the
            like, see ``open_base``), or a file of what an erasure changed.
        target: new, or replaced with ``overwrite``.
        kind: the format of the file that is written or, where the target is a folder, read; see
            ``formats.Target``. None is told by what lies there and by the target's suffix: a whole
            model.
        dtype: of a file's weights: ``keep``, ``fp16``, ``bf16`` or ``fp32``.
        base: the model that the erased one was made from, or belongs to.
        origin: the same as the source's run knows it, for formats that can't do without.
        options: the format's own, by name.
        overwrite: replace an existing target.

    Returns:
        One line that says what was written.

    Raises:
        UserError: nothing there, a target that exists, or options that don't go together.
    """
    from erase.formats import How, targets
    from erase.formats.base import Base, open_base
    from erase.formats.tensors import FILES

    goal = Path(target)
    if goal.exists() and not overwrite:
        raise UserError(f"{goal} exists: add --overwrite or choose another target.")
    suffix = goal.suffix if any(goal.suffix == form.WRITES for form in targets()) else ""
    if not suffix and goal.suffix.lower() in FILES:
        raise UserError(
            f"Nothing is written as a {goal.suffix} file: end the target in .safetensors, or give "
            "a folder's name."
        )
    model = Base(source, Path(source))
    if source in MODELS or not model.path.exists():
        model = open_base(source)
    form = _chosen(kind, suffix, model)
    if form.WHOLE and model.path.is_dir() == (not suffix):
        remedy = f"export {source} into a folder, and that into {target}"
        raise UserError(
            "An export of a whole model turns a folder into a .safetensors file, or a file into a "
            f"folder: {remedy if suffix else 'end the target in .safetensors'}."
        )
    if not suffix and dtype != "keep":
        raise UserError(
            "--dtype has no effect on a folder, which keeps the file's own: leave it out."
        )
    known = base or (_to_count_by(origin, dtype) if form.WHOLE else origin.source)
    own = _options(form, options or {})
    opened = open_base(known) if known else None
    if opened is not None and origin.fingerprint and getattr(form, "LEARNED", False):
        _check_origin(source, opened, origin.fingerprint)
    return form.write(model, goal, How(DTYPES[dtype], opened, own))


def _to_count_by(origin: Origin, dtype: str) -> str | None:
    """The base beside which the moved weights are counted that rounding leaves, where it is at
    hand."""
    from erase.formats.base import on_disk

    if dtype not in ROUND or origin.source is None:
        return None
    found = on_disk(origin.source)
    if found is None or not (found in MODELS or Path(found).expanduser().exists()):
        note(
            f"how much of the edit {dtype} leaves was not counted, since its base {origin.source} "
            "is not here: give it with --base."
        )
        return None
    return found


def _check_origin(source: str, base: Base, known: str) -> None:
    from erase.runtime.fingerprint import fingerprint_state

    if fingerprint_state(base.denoiser_state()) != known:
        raise UserError(
            f"{source} was not erased from {base.spec}, whose weights are others: give --base the "
            "model that its run was made from."
        )


def _chosen(kind: str | None, suffix: str, model: Base) -> Target:
    """The format of the target.

    Raises:
        UserError: the target's name or the source is of another one than ``kind`` says.
    """
    from erase.formats import target, targets

    form = target(kind) if kind else None
    if form and suffix == form.WRITES:
        return form
    if form and (suffix or model.path.is_dir()):
        ends = f"file whose name ends in {form.WRITES}" if form.WRITES else "folder"
        raise UserError(f"--format {kind} writes a {ends}: choose such a target.")
    if form and not form.reads(model.path):
        raise UserError(
            f"{model.spec} is not of the format {kind}: leave out --format to unpack what it is."
        )
    fit = [other for other in targets() if suffix == other.WRITES]
    whole = [other for other in fit if other.WHOLE] or fit
    if len(whole) > 1:
        raise UserError(
            f"A {suffix} file may be of several formats: add --format "
            f"{' or '.join(other.KIND for other in whole)}."
        )
    return whole[0]


def _options(form: Target, given: Mapping[str, Any]) -> Any:
    """The format's own options, checked; None where it has none."""
    from dataclasses import fields

    stated = getattr(form, "Options", None)
    known = [field.name for field in fields(stated)] if stated else []
    for name in given:
        if name not in known:
            raise UserError(f"--{name} has no effect on the format {form.KIND}: leave it out.")
    return stated(**given) if stated else None
