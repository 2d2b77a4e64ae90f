"""What judges look for in a run's images, and the judges opened for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from erase.eval.instruments.choice import axis_specs
from erase.eval.instruments.free_text import NEUTRAL, OWN_AXIS
from erase.eval.instruments.judges import Judge, load_judge, mini_judges, under_names
from erase.eval.instruments.setting import Setting
from erase.eval.instruments.spec import parse_spec
from erase.eval.pictures import Picture
from erase.prompts.concept import Concept
from erase.runtime.errors import UserError, nearest

CHOICES = 3
"""Labels below which a zero-shot judge is given ``NEUTRAL`` beside them."""


@dataclass(frozen=True)
class Target:
    """What to look for.

    Attributes:
        axis: on which the concept has its label.
        label: the concept's.
        anchor: the anchor's label on the same axis; None where it has none.
    """

    axis: str
    label: str
    anchor: str | None = None


def axes_of(pictures: Sequence[Picture]) -> dict[str, list[str]]:
    """Label columns that tell the retained images apart, with their labels.

    A column needs two different values; columns of numbers are none.
    """
    columns: dict[str, set[str]] = {}
    for picture in pictures:
        if picture.role == "retain":
            for axis, label in picture.labels.items():
                columns.setdefault(axis, set()).add(label)
    return {
        axis: sorted(labels)
        for axis, labels in sorted(columns.items())
        if len(labels) > 1 and all(any(c.isalpha() for c in label) for label in labels)
    }


def find_target(concept: Concept, anchor: Concept, pictures: Sequence[Picture]) -> Target:
    """Where the concept stands among the labels.

    A concept without an axis of its own is a further label of the retained images' only axis, or
    stands on one beside its anchor.
    """
    if concept.axis is not None and concept.label is not None:
        axis, label = concept.axis, concept.label
    else:
        columns = list(axes_of(pictures))
        axis, label = columns[0] if len(columns) == 1 else OWN_AXIS, concept.word
    if anchor.axis == axis:
        return Target(axis, label, anchor.label)
    known = anchor.axis is None or axis == OWN_AXIS
    return Target(axis, label, (anchor.word or None) if known else None)


def open_judges(setting: Setting, target: Target) -> dict[str, Judge]:
    """The judges of a setting by axis; a zero-shot one is opened once per axis.

    Raises:
        UserError: a judge that lacks a class of the images.
    """
    spec = setting.instruments.judge
    columns = axes_of(setting.pictures)
    kept = [p for p in setting.pictures if p.role == "retain"]
    if target.axis == OWN_AXIS:
        others = [NEUTRAL]
    else:
        others = sorted(p.labels[target.axis] for p in kept if target.axis in p.labels)
    # A judge that was made for these images need not know an anchor that none of them asks for.
    columns[target.axis] = sorted({target.label, *others})
    anchor = [target.anchor] if target.anchor and target.anchor not in columns[target.axis] else []

    def open_for(axis: str, one: str) -> Judge:
        more = [*anchor] if axis == target.axis else []
        few = axis == target.axis and len(columns[axis]) + len(more) < CHOICES
        if few and NEUTRAL not in columns[axis] and parse_spec(one)[0] == "open_clip":
            more += [NEUTRAL]
        return load_judge(one, columns[axis], more=more, device=setting.device, fetch=setting.fetch)

    if setting.judges is not None:
        judges = dict(setting.judges)
    elif spec is None:
        return {}
    elif spec == "mini":
        judges = mini_judges(setting.device)
    elif (given := axis_specs(spec)) is not None:
        _check_axes(given, columns, kept)
        judges = {axis: open_for(axis, one) for axis, one in given.items()}
    elif parse_spec(spec)[0] == "open_clip":
        judges = {axis: open_for(axis, spec) for axis in columns}
    else:
        judge = open_for(target.axis, spec)
        fits = [axis for axis, labels in columns.items() if set(labels) <= set(judge.labels)]
        judges = dict.fromkeys([target.axis, *(a for a in fits if a != target.axis)], judge)
    if target.axis not in judges:
        raise UserError(
            f"The judges are for {', '.join(judges)}, but the concept is on the axis "
            f"'{target.axis}': choose another --judge."
        )
    needed = {axis: columns[axis] for axis in judges if axis in columns}
    needed[target.axis] = [target.label, *(others if target.axis != OWN_AXIS else [])]
    judges = {axis: under_names(judge, needed.get(axis, ())) for axis, judge in judges.items()}
    if len(judges[target.axis].labels) < 2:
        raise UserError(
            f"The judge {judges[target.axis].spec} has one class, so that it would find "
            f"'{target.label}' in every image: choose another --judge."
        )
    for axis, label in ((a, label) for a, labels in needed.items() for label in labels):
        judge = judges[axis]
        if label not in judge.labels:
            raise UserError(
                f"The judge {judge.spec} has no class '{label}'.{nearest(label, judge.labels)} "
                "Choose another --judge; open_clip takes any classes."
            )
    return judges


def _check_axes(
    given: Iterable[str], columns: Mapping[str, Sequence[str]], kept: Sequence[Picture]
) -> None:
    """Refuses an axis that does not tell the retained images apart."""
    for axis in given:
        if axis in columns:
            continue
        alone = {p.labels[axis] for p in kept if axis in p.labels}
        if alone:
            raise UserError(
                f"All retained images have the same label on '{axis}' ('{min(alone)}'), so a judge "
                f"of that axis says nothing about them: leave {axis}= out of --judge."
            )
        raise UserError(
            f"The images have no labels '{axis}', only {', '.join(columns)}: leave {axis}= out of "
            "--judge."
        )
