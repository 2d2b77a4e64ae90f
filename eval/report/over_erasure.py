"""What else moved: every group of prompts, the same seeds before and after.

The groups are those of the headline figures (``forget``, ``retain``) and those of
``erase.prompts.groups``: neighbours, everyday captions, the empty prompt. Where a second base set
repeats a group's prompts with other seeds, the difference to how far another seed moves them says
whether a group moved further than that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from erase.eval.metrics.classifier import Classifier
from erase.eval.metrics.clip_score import ClipScore
from erase.eval.metrics.lpips import NO_NETWORK, Lpips
from erase.eval.pairing import pair
from erase.eval.pictures import Picture
from erase.eval.stats.intervals import Average, Share, average, share
from erase.prompts.groups import GROUPS
from erase.runtime.words import fold

ROLES = ("forget", "retain", *GROUPS)
MISSING = {
    "neighbour": "not measured: the concept has no neighbours, all were used in training, or none "
    "were asked for",
    "general": "not measured: none were asked for, or all were used in training",
    "empty": "not measured: none were asked for",
}
ONE_SEED = Average(reason="not measured: no second base set repeats these prompts")
EMPTY = "not measured: the empty prompt asks for nothing"


@dataclass(frozen=True)
class Group:
    """One group of prompts before and after.

    Attributes:
        name: ``forget``, ``retain``, ``neighbour``, ``general`` or ``empty``.
        set: name of the prompt set.
        prompts: different ones.
        trained: how many of the prompts were retained in training, whose images say less about what
            was not; None where that is not known, or of the concept's own prompts no question.
        n: images a side.
        lpips: distance between the same seed's images before and after, >= 0.
        clip_base, clip_erased: fit to the prompt, in [0, 100].
        recognised_base, recognised_erased: share of images whose labels are recognised; of
            neighbours that are classes of the judge.
        other_seed: distance between the base model's images of the same prompt and different seeds,
            >= 0; not measured where the second base set lacks the group.
        further: mean over the same images of LPIPS(before, after) - LPIPS(before, other seed).
    """

    name: str
    set: str
    prompts: int
    trained: int | None
    n: int
    lpips: Average
    clip_base: Average
    clip_erased: Average
    recognised_base: Share | None = None
    recognised_erased: Share | None = None
    other_seed: Average = ONE_SEED
    further: Average = ONE_SEED


@dataclass(frozen=True)
class OverErasure:
    """All groups.

    Attributes:
        groups: in the order of the module's text; those without images are left out.
        missing: why a group was left out.
        other_seed: distance between two retained images of the base model with different seeds.
        lpips: the distance's name; None where there is none.
    """

    groups: tuple[Group, ...]
    missing: Mapping[str, str]
    other_seed: Average
    lpips: str | None


def over_erasure(
    sides: Mapping[str, Sequence[Picture]],
    classifier: Classifier,
    alignment: ClipScore,
    distance: Lpips,
    trained: Set[str] | None = None,
) -> OverErasure:
    """Measures every group.

    Args:
        sides: images of all roles by side: ``base``, ``base2``, ``erased``.
        classifier: for the neighbours that it knows.
        alignment, distance: see ``Group``.
        trained: prompts retained in training, as ``words.fold`` spells them; None if unknown.
    """
    groups = []
    missing = {}
    for role in ROLES:
        base, erased, again = (
            [p for p in sides[s] if p.role == role] for s in ("base", "erased", "base2")
        )
        if not base:
            if role in GROUPS:
                missing[role] = MISSING[role]
            continue
        before, after = (
            Average(reason=EMPTY) if role == "empty" else alignment.mean(alignment.measure(side))
            for side in (base, erased)
        )
        prompts = {fold(p.prompt) for p in base}
        other, further = _against_seeds(base, erased, again, distance)
        unknown = trained is None or role == "forget"
        groups.append(
            Group(
                name=role,
                set=base[0].set,
                prompts=len(prompts),
                trained=None if unknown else len(prompts & (trained or set())),
                n=len(base),
                lpips=distance.mean(distance.measure(erased, base)),
                clip_base=before,
                clip_erased=after,
                recognised_base=_recognised(base, classifier),
                recognised_erased=_recognised(erased, classifier),
                other_seed=other,
                further=further,
            )
        )
    kept = next((group for group in groups if group.name == "retain"), None)
    other = kept.other_seed if kept else ONE_SEED
    return OverErasure(tuple(groups), missing, other, distance.name)


def _against_seeds(
    base: Sequence[Picture],
    erased: Sequence[Picture],
    again: Sequence[Picture],
    distance: Lpips,
) -> tuple[Average, Average]:
    """How far another seed moves a group's images, and how much further erasing moved them.

    Paired, since prompts differ in how much their images vary.
    """
    if distance.distance is None:
        return Average(reason=NO_NETWORK), Average(reason=NO_NETWORK)
    after = {picture.key: picture for picture in erased}
    pairs = pair(again, base, other_seeds=True)
    if not pairs:
        return ONE_SEED, ONE_SEED
    seeds = distance.between(pairs)
    moved = distance.between([(before, after[before.key]) for before, _ in pairs])
    return average(seeds, 0.0), average([m - s for m, s in zip(moved, seeds, strict=True)])


def _recognised(pictures: Sequence[Picture], classifier: Classifier) -> Share | None:
    """Of the groups that count towards no accuracy."""
    if pictures[0].role not in GROUPS:
        return None
    axis = classifier.target.axis
    judge = classifier.judges.get(axis)
    known = [p for p in pictures if judge is not None and p.labels.get(axis) in judge.labels]
    rows = classifier.measure(known) if known else []
    return share(sum(row.right(axis) for row in rows), len(rows))
