"""How a concept without a label of its own is judged: by a label that its words name, or zero-shot.

A judge with fixed labels is used where exactly one of them stands in the concept's own words (those
in brackets, else the whole prompt), however they are inflected. An open_clip judge, or the model of
the CLIP score, tells the concept's words from the anchor's and from ``NEUTRAL``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from erase.eval.instruments.choice import axis_specs
from erase.eval.instruments.judges import Judge, load_judge, mini_judges, to_words
from erase.eval.instruments.spec import parse_spec
from erase.runtime.words import contains

if TYPE_CHECKING:
    from erase.eval.instruments.setting import Setting
    from erase.prompts.concept import Concept

OWN_AXIS = "concept"
"""Axis of a concept that stands on none of the images' axes."""
NEUTRAL = "something else"
"""What an image may show zero-shot besides the concept and its anchor: with two labels alone, one
that shows neither would be a toss-up."""
ASK = "--judge open_clip:ViT-B-32 would tell it from its anchor"
"""What to give where nothing can judge, in the words of a reason."""


@dataclass(frozen=True)
class Placed:
    """A setting in which the concept can be judged, or not.

    Attributes:
        setting: with the concept's label and its judges, a zero-shot spec, or no judge at all.
        reason: why it can't be judged; None where it can.
        by_words: whether a judge's label stands for the concept.
    """

    setting: Setting
    reason: str | None = None
    by_words: bool = False


def place(setting: Setting, columns: Mapping[str, Sequence[str]]) -> Placed:
    """Finds the judge of a concept that has no label.

    Args:
        setting: of the images; its concept is without an axis.
        columns: axes that tell the retained images apart, with their labels.

    Raises:
        UserError: a judge that can't be opened.
    """
    given, clip = setting.instruments.judge, setting.instruments.clip
    bundled = setting.judges is None and given is None and setting.model == "mini"
    spec = given or clip
    if setting.judges is None and not bundled and _is_zero_shot(spec):
        return _zero_shot(setting, spec)
    judges = mini_judges(setting.device) if bundled else _opened(setting, given, columns)
    labels = {axis: judge.labels for axis, judge in judges.items()}
    found = named((setting.concept.word, setting.concept.name), labels)
    if len(found) == 1:
        [(axis, label)] = found
        concept = replace(setting.concept, axis=axis, label=label)
        anchor = _anchor(setting.anchor, axis, label, judges[axis].labels)
        asked = {a: judge for a, judge in judges.items() if a == axis or a in columns}
        made = replace(setting, concept=concept, anchor=anchor, judges=asked)
        return Placed(made, by_words=True)
    if bundled and _is_zero_shot(clip):
        return _zero_shot(setting, clip)
    return Placed(replace(setting, judges={}), _reason([x for _, x in found], judges, bundled))


def named(texts: Iterable[str], labels: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """The axes and labels that the first text names that names any; of ``golf ball`` and ``ball``
    the longer. A label that the judge has twice is named twice."""
    for text in texts:
        found = [
            (axis, label)
            for axis, own in labels.items()
            for label in own
            if contains(text, to_words(label))
        ]
        if found:
            return [
                (axis, label)
                for axis, label in found
                if not any(x != label and contains(to_words(x), to_words(label)) for _, x in found)
            ]
    return []


def labels_of(prompts: Iterable[str], labels: Sequence[str]) -> dict[str, str]:
    """The label that each prompt names; none of any where one of them names none or several, since
    captions that name one by chance are no sample of what is retained."""
    found = {prompt: named((prompt,), {"": labels}) for prompt in prompts}
    if any(len(own) != 1 for own in found.values()):
        return {}
    return {prompt: own[0][1] for prompt, own in found.items()}


def told(setting: Setting, label: str, judge: Judge, *, by_words: bool) -> str:
    """How the concept was judged, as a sentence of the report."""
    of = f"'{setting.concept.name}' is free text: "
    if by_words:
        return f"{of}UA uses the judge's label '{label}', which its words name."
    return (
        f"{of}UA is zero-shot between {len(judge.labels)} labels ({', '.join(judge.labels)}): an "
        "image counts as the one that fits it best."
    )


def _is_zero_shot(spec: str | None) -> bool:
    return axis_specs(spec or "") is None and (spec or "").startswith("open_clip:")


def _zero_shot(setting: Setting, spec: str | None) -> Placed:
    return Placed(replace(setting, instruments=replace(setting.instruments, judge=spec)))


def _opened(
    setting: Setting, spec: str | None, columns: Mapping[str, Sequence[str]]
) -> Mapping[str, Judge]:
    """The judges that were given, on the axes that they know."""
    if setting.judges is not None or spec is None:
        return setting.judges or {}
    if spec == "mini":
        return mini_judges(setting.device)
    by_axis = axis_specs(spec)
    if by_axis is not None:
        return {
            axis: load_judge(one, columns.get(axis), device=setting.device, fetch=setting.fetch)
            for axis, one in by_axis.items()
        }
    parse_spec(spec)
    only = next(iter(columns.values())) if len(columns) == 1 else None
    judge = load_judge(spec, only, device=setting.device, fetch=setting.fetch)
    known = [axis for axis, labels in columns.items() if set(labels) <= set(judge.labels)]
    return dict.fromkeys(known or [OWN_AXIS], judge)


def _anchor(anchor: Concept, axis: str, label: str, labels: Sequence[str]) -> Concept:
    """The anchor with the label that its words name, if it is one beside the concept's."""
    if anchor.axis is not None:
        return anchor
    found = named((anchor.word, anchor.name), {axis: labels})
    if len(found) != 1 or found[0][1] == label:
        return anchor
    return replace(anchor, axis=axis, label=found[0][1])


def _reason(found: Sequence[str], judges: Mapping[str, Judge], bundled: bool) -> str:
    if found:
        several = " and ".join(map(to_words, dict.fromkeys(found)))
        return (
            f"not measured: its words name more than one of the judge's labels ({several}); "
            "mark its own words with brackets, as in 'a photo of a [church]'"
        )
    if bundled or not judges:
        known = "the bundled judges know none of its words" if bundled else "no judge was given"
        return f"not measured: {known}, and {ASK}"
    count = sum(len(judge.labels) for judge in {id(j): j for j in judges.values()}.values())
    return f"not measured: none of the judge's {count} labels is among its words, and {ASK}"
