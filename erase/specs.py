"""Specs of judges, CLIP models and feature networks: checked early, and told apart by content."""

from __future__ import annotations

from pathlib import Path

from erase.included import identity


def judge_identity(spec: str | None) -> str | None:
    """A model's spec, with the hash of its file or folder where it names one."""
    _, at, source = (spec or "").partition("@")
    if not at or not Path(source).exists():
        return spec
    return f"{spec} {identity(Path(source))}"


def check_specs(judge: str | None, clip: str | None, features: str | None) -> None:
    """Refuses specs that no model can be opened from, before days are spent on images for them.

    Args:
        judge, clip, features: as the user gave them; None where there is none.

    Raises:
        UserError: an unknown library, or a file that is not there.
    """
    for spec in (judge, clip):
        if spec and spec != "mini":
            from erase.eval.judges import parse_spec

            parse_spec(spec)
    if features:
        from erase.eval.extractors import check_extractor

        check_extractor(features)
