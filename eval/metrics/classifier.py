"""Unlearning accuracy: what judges recognise in forget and in retained images.

    UA    share of the forget images in which the concept is not recognised
    RA    retain accuracy: share of the retained images whose labels on all axes are recognised
    IRA   in-domain retain accuracy: share of the retained images whose label on the concept's own
          axis is recognised (other objects, where an object is erased)
    CRA   cross-domain retain accuracy: share of the retained images whose labels on all other axes
          are recognised (their style)

Names and definitions of UnlearnCanvas (arXiv 2402.11846), except that IRA and CRA count retained
prompts only; what the forget images became is a figure of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase.eval.figure import Cell, CellColumn, Figure, figure
from erase.eval.instruments.free_text import Placed, labels_of, place, told
from erase.eval.instruments.judges import Judge
from erase.eval.instruments.setting import Setting
from erase.eval.instruments.targets import Target, axes_of, find_target, open_judges
from erase.eval.metrics import Seen
from erase.eval.pages.table import Column
from erase.eval.pictures import Picture
from erase.eval.stats.intervals import Share, share
from erase.eval.stats.paired import Difference, difference
from erase.eval.store import measured

COLUMNS = (
    Column(
        "ua",
        "UA",
        "%",
        "up",
        "Unlearning accuracy",
        "forget images in which {word} is not recognised",
    ),
    Column(
        "became_anchor",
        "became the anchor",
        "%",
        "up",
        "Became the anchor",
        "forget images recognised as {anchor}",
    ),
    Column(
        "ra",
        "RA",
        "%",
        "up",
        "Retained",
        "retained images in which everything asked for is recognised",
    ),
    Column(
        "ira", "IRA", "%", "up", "In-domain retained", "retained images whose {axis} is recognised"
    ),
    Column(
        "cra",
        "CRA",
        "%",
        "up",
        "Cross-domain retained",
        "retained images whose {others} is recognised",
    ),
)
AGAINST = "base"
NEEDS = {"concept": "The classifier needs --concept, which says what counts as erased."}
RANK = 10


def _share(key: str) -> Callable[[Cell], float | None]:
    def read(cell: Cell) -> float | None:
        found = cell["summary"]["erased"][key]
        return None if found is None else float(found["value"])

    return read


def _asked(key: str) -> Callable[[Cell], int]:
    return lambda cell: int(cell["summary"]["erased"][key]["n"])


COMPARED = tuple(
    CellColumn(key, key.upper(), "%", "up", of=_share(key), n=_asked(key))
    for key in ("ua", "ira", "cra")
)
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
    """The figures of one side; see the module.

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


@dataclass(frozen=True)
class Classifier:
    """The metric.

    Attributes:
        judges: by axis; none where there is nothing to judge with.
        target: what to look for.
        store: see ``measured``.
        named: labels on the concept's axis that retained prompts name, by prompt.
        told: how a concept without a label of its own was judged, as a sentence.
        reason: why nothing is judged, where nothing is.
    """

    judges: Mapping[str, Judge]
    target: Target
    store: Path | None = None
    named: Mapping[str, str] = field(default_factory=dict)
    told: str | None = None
    reason: str = NO_JUDGE

    @property
    def facts(self) -> dict[str, Any]:
        """What was looked for, and by which judges."""
        judges = {
            axis: {"spec": j.spec, "labels": list(j.labels), **j.facts}
            for axis, j in self.judges.items()
        }
        how = {"how": self.told} if self.told else {}
        return {"target": asdict(self.target), "judges": judges, **how}

    @property
    def unfetched(self) -> list[str]:
        """See ``metrics.Fetched``: a judge that was not fetched has no facts."""
        return [judge.spec for judge in self.judges.values() if not judge.facts]

    def trial(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """See ``metrics.Tried``."""
        for judge in {id(j): j for j in self.judges.values() if j.facts}.values():
            judge.classify(images)

    def labels(self, picture: Picture) -> Mapping[str, str]:
        """What an image should show, on the axes where its judge can say so."""
        if picture.role != "retain" or picture.prompt not in self.named:
            return picture.labels
        return {self.target.axis: self.named[picture.prompt], **picture.labels}

    def looks_at(self, picture: Picture) -> bool:
        """Forget and retained images."""
        return picture.role in ("forget", "retain")

    def measure(self, images: Sequence[Picture], against: Sequence[Picture] = ()) -> list[Judged]:
        """Shows every image to every axis's judge."""
        said: dict[str, list[list[Any]]] = {}
        for axis, judge in self.judges.items():
            said[axis] = measured(
                images,
                lambda batch, judge=judge: [list(a) for a in judge.classify(batch)],  # type: ignore[misc]
                store=self.store,
                by={"spec": judge.spec, "labels": judge.labels, "facts": dict(judge.facts)},
                title=f"judge {judge.spec.partition('@')[0]}, by {axis}",
            )
        return [
            Judged(
                p.role,
                self.labels(p),
                {axis: (str(s[i][0]), float(s[i][1])) for axis, s in said.items()},
            )
            for i, p in enumerate(images)
        ]

    def accuracy(self, rows: Sequence[Judged], against: Sequence[Judged] = ()) -> Accuracy:
        """UA, IRA, CRA and what they are made of; ``against`` is the base side."""
        if not self.judges:
            return Accuracy(reasons=dict.fromkeys(FIGURES, self.reason))
        return score(rows, self.target, list(self.judges), against)

    def score(self, rows: Sequence[Judged], against: Sequence[Judged] = ()) -> list[Figure]:
        """UA, RA, IRA, CRA, and how many forget images became the anchor."""
        found = self.accuracy(rows, against)
        return [figure(c, getattr(found, c.key), reason=found.reasons.get(c.key)) for c in COLUMNS]

    def sections(self, sides: Mapping[str, Seen]) -> dict[str, Any]:
        """``summary``, ``per_class``, ``became``, ``confusion``, ``target`` and ``axes``."""
        rows = {side: sides[side].rows for side in ("base", "erased")}
        found = {side: self.accuracy(own, rows["base"]) for side, own in rows.items()}
        facts = self.facts
        return {
            "target": facts["target"],
            "axes": tuple(facts["judges"]),
            "summary": {side: _side(accuracy) for side, accuracy in found.items()},
            "per_class": _both_sides(found["base"], found["erased"], rows),
            "became": {side: a.became for side, a in found.items()},
            "confusion": {side: a.confusion for side, a in found.items()},
            "warnings": (self.told,) if self.told else (),
            "reasons": dict(found["erased"].reasons),
        }

    def folder(self, seen: Seen, against: Seen | None) -> dict[str, Any]:
        """``classifier``."""
        return {"classifier": asdict(self.accuracy(seen.rows, against.rows if against else ()))}


def _side(accuracy: Accuracy) -> Side:
    a = accuracy
    return Side(a.ua, a.ra, a.ira, a.cra, a.became_anchor)


def _both_sides(
    base: Accuracy, erased: Accuracy, judged: Mapping[str, Sequence[Judged]]
) -> tuple[PerClass, ...]:
    """Joins the sides, whose images are of the same labels in the same order."""
    rows = []
    for b, e in zip(base.per_class, erased.per_class, strict=True):
        hits = {
            side: [row.said[b.axis][0] == b.label for row in found if _is_of(row, b)]
            for side, found in judged.items()
        }
        paired = difference(hits["base"], hits["erased"])
        change = float(e.change or 0.0)
        rows.append(PerClass(b.axis, b.label, b.role, b.share, e.share, change, paired))
    return tuple(rows)


def _is_of(row: Judged, share: ClassShare) -> bool:
    """Whether an image counts towards a label's share."""
    if row.role != share.role:
        return False
    return share.role == "forget" or row.labels.get(share.axis) == share.label


def build(setting: Setting) -> Classifier:
    """Opens the setting's judges.

    Raises:
        UserError: a judge that can't be opened or lacks a class of the images.
    """
    placed = Placed(setting)
    free = setting.concept.axis is None and bool(setting.concept.word)
    if free:
        placed = place(setting, axes_of(setting.pictures))
        setting = placed.setting
    target = find_target(setting.concept, setting.anchor, setting.pictures)
    if placed.reason is not None:
        return Classifier({}, target, setting.store, reason=placed.reason)
    judges = open_judges(setting, target)
    if not judges:
        return Classifier({}, target, setting.store)
    judge = judges[target.axis]
    if target.anchor not in judge.labels:
        target = Target(target.axis, target.label)
    if not free:
        return Classifier(judges, target, setting.store)
    prompts = {p.prompt for p in setting.pictures if p.role == "retain"}
    named = labels_of(prompts, judge.labels) if placed.by_words else {}
    how = told(setting, target.label, judge, by_words=placed.by_words)
    return Classifier(judges, target, setting.store, named, how)
