"""What judges recognised, counted: one side's figures, and two sides' by label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from erase.eval.instruments.targets import Target
from erase.eval.stats.intervals import CONFIDENCE, Share, share
from erase.eval.stats.paired import Difference, difference

FIGURES = ("ua", "ra", "ira", "cra", "became_anchor")
NO_JUDGE = "not measured: no judge"


@dataclass(frozen=True)
class Judged:
    """One image and what the judges say of it.

    Attributes:
        role: ``forget`` or ``retain``.
        labels: what it should show, by axis.
        said: what it shows, by axis: label and confidence in [0, 1].
    """

    role: str
    labels: Mapping[str, str]
    said: Mapping[str, tuple[str, float]]

    def right(self, axis: str) -> bool:
        """Whether the label on this axis was recognised."""
        return self.said[axis][0] == self.labels[axis]


@dataclass(frozen=True)
class ClassShare:
    """Share of one label's images in which that label is recognised.

    Attributes:
        axis, label, role: which images.
        share: recognised as ``label``.
        change: minus the same share of the side compared with; None without one.
    """

    axis: str
    label: str
    role: str
    share: Share
    change: float | None = None


@dataclass(frozen=True)
class Side:
    """Headline figures of one model, fractions of 1; None where not measured."""

    ua: Share | None
    ra: Share | None
    ira: Share | None
    cra: Share | None
    became_anchor: Share | None


@dataclass(frozen=True)
class PerClass:
    """Share of a label's images in which it is recognised; ``change`` is erased minus base, and
    ``paired`` the same with its interval, over the same images."""

    axis: str
    label: str
    role: str
    base: Share
    erased: Share
    change: float
    paired: Difference | None = None


@dataclass(frozen=True)
class Accuracy:
    """The figures of one side; see ``metrics.classifier``.

    Attributes:
        ua, ra, ira, cra, became_anchor: None where not measured.
        reasons: why not, by figure.
        per_class: the concept first, then the retained labels by axis.
        became: how many forget images were recognised as which label, most frequent first.
        confusion: on the concept's axis, true label -> recognised label -> images.
    """

    ua: Share | None = None
    ra: Share | None = None
    ira: Share | None = None
    cra: Share | None = None
    became_anchor: Share | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    per_class: tuple[ClassShare, ...] = ()
    became: Mapping[str, int] = field(default_factory=dict)
    confusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def score(
    rows: Sequence[Judged],
    target: Target,
    axes: Sequence[str],
    against: Sequence[Judged] | None = None,
) -> Accuracy:
    """Counts the images that are recognised.

    Args:
        rows: judged images.
        target: the concept's axis and label.
        axes: those with a judge, the concept's among them.
        against: the other side's rows, for the change per class.
    """
    if target.axis not in axes:
        return Accuracy(reasons=dict.fromkeys(FIGURES, NO_JUDGE))
    forget = [r for r in rows if r.role == "forget"]
    kept = [r for r in rows if r.role == "retain"]
    named = [r for r in kept if target.axis in r.labels]
    others = [a for a in axes if a != target.axis and any(a in r.labels for r in kept)]
    crossed = [r for r in kept if all(a in r.labels for a in others)]
    reasons: dict[str, str] = {}
    if not forget:
        reasons["ua"] = reasons["became_anchor"] = "not measured: no forget images"
    elif target.anchor is None:
        reasons["became_anchor"] = f"not measured: the anchor has no label on '{target.axis}'"
    if not named:
        reasons["ira"] = f"not measured: no retained images with a label on '{target.axis}'"
    if not others or not crossed:
        reasons["cra"] = "not measured: no second axis"
    asked = [[a for a in axes if a in r.labels] for r in kept]
    whole = [all(map(r.right, own)) for r, own in zip(kept, asked, strict=True) if own]
    if not whole:
        reasons["ra"] = "not measured: no retained images with a label"
    said = [r.said[target.axis][0] for r in forget]
    became = Counter(said)
    confusion: dict[str, Counter[str]] = {target.label: became} if forget else {}
    for row in named:
        confusion.setdefault(row.labels[target.axis], Counter())[row.said[target.axis][0]] += 1
    return Accuracy(
        ua=share(len(said) - became[target.label], len(said)),
        ra=share(sum(whole), len(whole)),
        ira=share(sum(r.right(target.axis) for r in named), len(named)),
        cra=share(sum(all(map(r.right, others)) for r in crossed), len(crossed))
        if others
        else None,
        became_anchor=share(became[target.anchor], len(said)) if target.anchor else None,
        reasons=reasons,
        per_class=_per_class(rows, target, [target.axis, *others], against),
        became=dict(became.most_common()),
        confusion={label: dict(c.most_common()) for label, c in confusion.items()},
    )


def _counts(
    rows: Sequence[Judged], target: Target, axes: Sequence[str]
) -> dict[tuple[str, str, str], list[bool]]:
    """By axis, label and role, for each image whether it was recognised as that label."""
    found: dict[tuple[str, str, str], list[bool]] = {}
    for row in rows:
        if row.role == "forget":
            hit = row.said[target.axis][0] == target.label
            found.setdefault((target.axis, target.label, row.role), []).append(hit)
            continue
        for axis in axes:
            if axis in row.labels:
                key = (axis, row.labels[axis], row.role)
                found.setdefault(key, []).append(row.right(axis))
    # False sorts first: the concept's axis before the others, the concept before its neighbours.
    return dict(sorted(found.items(), key=lambda kv: (axes.index(kv[0][0]), kv[0][2], kv[0][1])))


def _per_class(
    rows: Sequence[Judged],
    target: Target,
    axes: Sequence[str],
    against: Sequence[Judged] | None,
) -> tuple[ClassShare, ...]:
    before = _counts(against or (), target, axes)
    table = []
    for key, hits in _counts(rows, target, axes).items():
        value = share(sum(hits), len(hits))
        assert value is not None
        old = before.get(key)
        change = value.value - sum(old) / len(old) if old else None
        table.append(ClassShare(*key, value, change))
    return tuple(table)


def side_of(accuracy: Accuracy) -> Side:
    """The headline figures."""
    a = accuracy
    return Side(a.ua, a.ra, a.ira, a.cra, a.became_anchor)


def both_sides(
    base: Accuracy, erased: Accuracy, judged: Mapping[str, Sequence[Judged]]
) -> tuple[PerClass, ...]:
    """Joins the sides, whose images are of the same labels in the same order."""
    rows = []
    for b, e in zip(base.per_class, erased.per_class, strict=True):
        paired = _changed(b, judged)
        change = float(e.change or 0.0)
        rows.append(PerClass(b.axis, b.label, b.role, b.share, e.share, change, paired))
    return tuple(rows)


def changes(
    per_class: Sequence[PerClass], judged: Mapping[str, Sequence[Judged]], least: int
) -> dict[tuple[str, str], Difference]:
    """By axis and label, the paired difference of each retained class that has images enough, its
    intervals holding for all of them together (Bonferroni).

    Args:
        per_class: of both sides.
        judged: by side, the images in the same order.
        least: images that a class has to have.
    """
    known = [r for r in per_class if r.role == "retain" and r.paired and r.paired.n >= least]
    confidence = 1 - (1 - CONFIDENCE) / max(len(known), 1)
    found = {(r.axis, r.label): _changed(r, judged, confidence) for r in known}
    return {key: change for key, change in found.items() if change}


def _changed(
    of: ClassShare | PerClass,
    judged: Mapping[str, Sequence[Judged]],
    confidence: float = CONFIDENCE,
) -> Difference | None:
    hits = {
        side: [row.said[of.axis][0] == of.label for row in found if _is_of(row, of)]
        for side, found in judged.items()
    }
    return difference(hits["base"], hits["erased"], confidence)


def _is_of(row: Judged, share: ClassShare | PerClass) -> bool:
    """Whether an image counts towards a label's share."""
    if row.role != share.role:
        return False
    return share.role == "forget" or row.labels.get(share.axis) == share.label
