"""Specs of judges, CLIP models and feature networks: checked early, and told apart by content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from erase.errors import UserError, nearest
from erase.included import identity


def axis_specs(text: str) -> dict[str, str] | None:
    """``object=SPEC,style=SPEC`` by axis; None for a spec without an axis.

    Raises:
        UserError: an axis that is named twice.
    """
    if not re.match(r"[\w-]+=", text):
        return None
    parts = [part.partition("=") for part in re.split(r",(?=[\w-]+=)", text)]
    axes = [axis for axis, _, _ in parts]
    if len(set(axes)) < len(axes):
        raise UserError(f"--judge {text} names an axis twice: give one judge for each.")
    return {axis: spec for axis, _, spec in parts}


def check_axes(judge: str | None, labels: Iterable[Mapping[str, str]]) -> None:
    """Refuses a judge of an axis on which no image has a label.

    Raises:
        UserError: naming the nearest axis.
    """
    known = sorted({axis for row in labels for axis in row})
    for axis in axis_specs(judge or "") or {}:
        if axis not in known:
            raise UserError(
                f"No retained prompt has a label '{axis}', which --judge names."
                f"{nearest(axis, known)} The columns are: {', '.join(known) or 'none'}."
            )


def judge_identity(spec: str | None) -> str | None:
    """A model's spec, with the hash of its file or folder where it names one."""
    by_axis = axis_specs(spec or "")
    if by_axis is not None:
        return ",".join(f"{axis}={judge_identity(one)}" for axis, one in by_axis.items())
    _, at, source = (spec or "").partition("@")
    if not at or not Path(source).exists():
        return spec
    beside = Path(f"{source}.labels.txt")
    labels = f" {identity(beside)}" if beside.is_file() else ""
    return f"{spec} {identity(Path(source))}{labels}"


def check_specs(
    judge: str | None, clip: str | None, features: str | None, lpips: str | None = None
) -> None:
    """Refuses specs that no model can be opened from, before days are spent on images for them.

    Args:
        judge, clip, features, lpips: as the user gave them; None where there is none.

    Raises:
        UserError: an unknown library, or a file that is not there.
    """
    from erase.eval.opening import parse_spec

    by_axis = axis_specs(judge or "")
    for spec in by_axis.values() if by_axis is not None else ():
        parse_spec(spec)
    for one in (judge if by_axis is None else None, clip):
        if one and one != "mini":
            parse_spec(one)
    if features:
        from erase.eval.extractors import check_extractor

        check_extractor(features)
    if lpips:
        from erase.eval.perceptual import check_perceptual

        check_perceptual(lpips)
