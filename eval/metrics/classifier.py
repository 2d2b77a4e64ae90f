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
from erase.eval.recognition import FIGURES, NO_JUDGE, Accuracy, Judged, both_sides, score, side_of
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
            "summary": {side: side_of(accuracy) for side, accuracy in found.items()},
            "per_class": both_sides(found["base"], found["erased"], rows),
            "became": {side: a.became for side, a in found.items()},
            "confusion": {side: a.confusion for side, a in found.items()},
            "warnings": (self.told,) if self.told else (),
            "reasons": dict(found["erased"].reasons),
        }

    def folder(self, seen: Seen, against: Seen | None) -> dict[str, Any]:
        """``classifier``."""
        return {"classifier": asdict(self.accuracy(seen.rows, against.rows if against else ()))}


BUNDLED = "not measured: for the bundled model's judges only"


def build_bundled(setting: Setting) -> Classifier:
    """The same over the bundled judges, or those of ``Setting.judges``; no judges, with the reason,
    where the setting names others, which would be opened a second time.

    Raises:
        UserError: see ``build``.
    """
    given = setting.instruments
    # Free text on the bundled model is placed by its words.
    free = setting.model == "mini" and given.judge is None and given.clip is None
    if setting.judges is None and given.judge != "mini" and not free:
        reason = BUNDLED if setting.instruments.judge else NO_JUDGE
        target = find_target(setting.concept, setting.anchor, setting.pictures)
        return Classifier({}, target, setting.store, reason=reason)
    return build(setting)


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
