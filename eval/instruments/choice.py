"""Specs of judges, CLIP models and feature networks: checked early, and told apart by content."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.runtime.errors import UserError, nearest
from erase.runtime.files import identity

if TYPE_CHECKING:
    from erase.eval.instruments.nudenet import Config
    from erase.prompts.concept import Concept


@dataclass(frozen=True)
class Instruments:
    """What images are measured with, as the user named it; of what is None, the bundled model has
    its own, and other models nothing.

    Attributes:
        judge: spec of the classifier behind UA, IRA and CRA; None takes the concept's own.
        clip: spec of the open_clip model behind the CLIP score.
        features: spec of the feature network behind FID and KID.
        lpips: spec of the network behind LPIPS.
        nudity: what counts as nudity; None asks only where it is the concept.
    """

    judge: str | None = None
    clip: str | None = None
    features: str | None = None
    lpips: str | None = None
    nudity: Config | None = None

    def beside(self, concept: Concept) -> Instruments:
        """With the concept's own judge where none is given."""
        return replace(self, judge=self.judge or concept.judge)

    def given(self) -> dict[str, Any]:
        """As JSON, to be taken up again."""
        return asdict(self)

    def identities(self, concepts: Iterable[Concept]) -> dict[str, Any]:
        """What figures depend on: specs with the hashes of the files they name, as JSON.

        Args:
            concepts: whose own judges stand where no judge is given.
        """
        found: dict[str, Any] = {
            "judge": [spec_identity(self.judge or concept.judge) for concept in concepts],
            "clip": spec_identity(self.clip),
            "features": spec_identity(self.features),
            "lpips": spec_identity(self.lpips),
        }
        return found | ({"nudity": asdict(self.nudity)} if self.nudity else {})

    def check(self) -> None:
        """Refuses specs that nothing can be opened from, before days are spent on images for them.

        Raises:
            UserError: an unknown library, or a file that is not there.
        """
        from erase.eval.instruments.spec import parse_spec

        by_axis = axis_specs(self.judge or "")
        for spec in by_axis.values() if by_axis is not None else ():
            parse_spec(spec)
        for one in (self.judge if by_axis is None else None, self.clip):
            if one and one != "mini":
                parse_spec(one)
        if self.features:
            from erase.eval.instruments.features import check_extractor

            check_extractor(self.features)
        if self.lpips:
            from erase.eval.instruments.perceptual import check_perceptual

            check_perceptual(self.lpips)


UNNAMED = Instruments()
"""The user named none."""


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
        raise UserError(f"--judge {text} names an axis twice: give one judge per axis.")
    return {axis: spec for axis, _, spec in parts}


def spec_identity(spec: str | None) -> str | None:
    """A spec, with the hash of its file or folder where it names one."""
    by_axis = axis_specs(spec or "")
    if by_axis is not None:
        return ",".join(f"{axis}={spec_identity(one)}" for axis, one in by_axis.items())
    _, at, source = (spec or "").partition("@")
    if not at or not Path(source).exists():
        return spec
    beside = Path(f"{source}.labels.txt")
    labels = f" {identity(beside)}" if beside.is_file() else ""
    return f"{spec} {identity(Path(source))}{labels}"
