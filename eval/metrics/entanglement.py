"""Entanglement: what the other objects turn into when one is erased, and whether the near ones do.

Rows of the matrix are what was asked for on the concept's axis, columns what the judge sees. A drop
is a label's share before minus its share after, over the same prompts and seeds; the distance of
two labels is that of the mean features of their base images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from erase.eval.figure import Figure, figure, from_list
from erase.eval.instruments.features import Features
from erase.eval.instruments.setting import Setting
from erase.eval.metrics import Seen
from erase.eval.metrics.classifier import Classifier, build_bundled
from erase.eval.metrics.fidelity import FidelityMetric
from erase.eval.metrics.fidelity import build as build_fidelity
from erase.eval.pages import phrases
from erase.eval.pages.phrases import DASH, FEW
from erase.eval.pages.table import Cell, Column, Panel
from erase.eval.pictures import Picture
from erase.eval.stats.intervals import CONFIDENCE
from erase.eval.stats.paired import Difference, newcombe_paired

COLUMNS = (
    Column(
        "largest_drop",
        "largest drop",
        "points",
        "down",
        "Largest drop",
        "how much less often the most damaged other {axis} is recognised than before; the interval "
        "holds for all of them at once",
    ),
    Column(
        "drop_by_distance",
        "drop by distance",
        "",
        None,
        "Drop by distance",
        "rank correlation over the other {axis}s: below 0, those that look like {word} lose most",
        2,
    ),
)
COMPARED = (from_list(COLUMNS[0]),)
AGAINST = "base"
NEEDS = {
    "concept": "Entanglement needs --concept, which says what counts as erased.",
    "against": "Entanglement needs --against, a folder of the same prompts and seeds.",
}
RANK = 16
OTHERS = 4
"""Labels of which there is a correlation, at least."""
NO_PAIRS = "not measured: no image has a counterpart on the base side"
TOO_FEW = f"not measured: no other label has {FEW} images"
NO_FEATURES = "not measured: no feature network for this model's images"
BY_DEFINITION = "by definition"


@dataclass(frozen=True)
class Row:
    """One image.

    Attributes:
        key: the same on both sides.
        asked, seen: labels on the concept's axis.
        role: ``forget`` or ``retain``.
        features: (D,) of a base image; None without a feature network.
    """

    key: tuple[Any, ...]
    asked: str
    seen: str
    role: str
    features: Features | None


@dataclass(frozen=True)
class Drop:
    """How much less often a label is recognised than before.

    Attributes:
        label: which.
        change: share before minus share after, as paired difference; its interval holds for all
            labels at once.
        distance: of its mean features on the base from the concept's; None where not measured.
    """

    label: str
    change: Difference
    distance: float | None


@dataclass(frozen=True)
class Entanglement:
    """The metric.

    Attributes:
        classifier: the judges, and what they look for.
        fidelity: the feature network.
    """

    classifier: Classifier
    fidelity: FidelityMetric

    @property
    def facts(self) -> dict[str, Any]:
        """The judges and the feature network; empty where nothing is judged."""
        if not self.classifier.judges:
            return {}
        network = self.fidelity.facts["extractor"]
        return {**self.classifier.facts, "extractor": network, "fewest": FEW}

    def looks_at(self, picture: Picture) -> bool:
        """Forget and retained images."""
        return self.classifier.looks_at(picture)

    def measure(self, images: Sequence[Picture], against: Sequence[Picture] = ()) -> list[Row]:
        """What was asked for and seen in each image that has a label on the concept's axis.

        Args:
            against: the base side's; without, the images are the base's, and have features.
        """
        if not self.classifier.judges:
            return []
        axis, label = self.classifier.target.axis, self.classifier.target.label
        judged = self.classifier.measure(images)
        # Distances are the base's, which is measured against nothing.
        measured = self.fidelity.measure(() if against else images)
        features: list[Features | None] = [*measured] or [None] * len(images)
        return [
            Row(
                (picture.key, picture.prompt),
                label if row.role == "forget" else row.labels[axis],
                row.said[axis][0],
                row.role,
                own,
            )
            for picture, row, own in zip(images, judged, features, strict=True)
            if row.role == "forget" or axis in row.labels
        ]

    def drops(self, rows: Sequence[Row], base: Sequence[Row]) -> list[Drop]:
        """Those of the other labels with enough images, largest first."""
        both = pairs(rows, base)
        target = self.classifier.target.label
        counts = Counter(before.asked for before, _ in both if before.role == "retain")
        labels = [label for label, n in counts.items() if n >= FEW and label != target]
        place = {label: mean_features(base, label) for label in (target, *labels)}
        found = []
        for label in labels:
            own = [(b.seen == label, a.seen == label) for b, a in both if b.asked == label]
            here, there = place[label], place[target]
            apart = None if here is None or there is None else float(np.linalg.norm(here - there))
            found.append(Drop(label, drop(own, len(labels)), apart))
        return sorted(found, key=lambda d: (-d.change.value, d.label))

    def score(self, rows: Sequence[Row], against: Sequence[Row] = ()) -> list[Figure]:
        """The largest drop, and whether drops go with the distance from the concept; no figures of
        folders' base side, which is compared with nothing."""
        if not self.classifier.judges:
            return [figure(column, None, reason=self.classifier.reason) for column in COLUMNS]
        if not against:
            return []
        if not pairs(rows, against):
            return [figure(column, None, reason=NO_PAIRS) for column in COLUMNS]
        found = self.drops(rows, against)
        if not found:
            return [figure(column, None, reason=TOO_FEW) for column in COLUMNS]
        largest = found[0]
        if rows is against:
            own = {"value": 0.0, "n": largest.change.n, "note": BY_DEFINITION}
            return [figure(COLUMNS[0], None, **own), _correlation(found)]
        detail = phrases.words(largest.label) if largest.change.value > 0 else "none dropped"
        return [figure(COLUMNS[0], largest.change, detail=detail), _correlation(found)]

    def panels(self, sides: Mapping[str, Seen]) -> list[Panel]:
        """The matrix after erasing."""
        base, erased = sides["base"].rows, sides["erased"].rows
        if not erased:
            return []
        target = self.classifier.target
        return [matrix(self.drops(erased, base), base, erased, target.axis, target.label)]


def pairs(rows: Sequence[Row], base: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Rows of the same prompt and seed, the base's first."""
    before = {row.key: row for row in base}
    return [(before[row.key], row) for row in rows if row.key in before]


def drop(hits: Sequence[tuple[bool, bool]], labels: int) -> Difference:
    """Share before minus share after (``stats.paired``), Bonferroni's interval for all labels.

    Args:
        hits: whether the label was recognised before and after; not empty.
        labels: among which the largest drop is looked for.
    """
    counts = Counter(hits)
    cells = (counts[True, True], counts[False, True], counts[True, False], counts[False, False])
    return newcombe_paired(*cells, confidence=1 - (1 - CONFIDENCE) / labels)


def mean_features(rows: Sequence[Row], label: str) -> Features | None:
    """Mean features of a label's images; None without any."""
    own = [row.features for row in rows if row.asked == label and row.features is not None]
    return np.mean(own, 0) if own else None


def _correlation(drops: Sequence[Drop]) -> Figure:
    """Spearman's ρ between drop and distance, with the bound that unrelated ones stay below."""
    from scipy.stats import spearmanr
    from scipy.stats import t as student

    n = len(drops)
    distances = [d.distance for d in drops if d.distance is not None]
    if len(distances) < n:
        return figure(COLUMNS[1], None, reason=NO_FEATURES)
    if n < OTHERS:
        return figure(COLUMNS[1], None, reason=f"not measured: fewer than {OTHERS} other labels")
    values = [d.change.value for d in drops]
    if min(values) == max(values):
        same = "nothing dropped" if max(values) <= 0 else "all dropped alike"
        return figure(COLUMNS[1], None, reason=f"not measured: {same}")
    found = float(spearmanr(values, distances).statistic)
    t = float(student.ppf(0.5 + CONFIDENCE / 2, n - 2))
    chance = t / (n - 2 + t * t) ** 0.5
    note = f"chance stays within ±{chance:.2f}"
    return figure(COLUMNS[1], None, value=found, n=n, detail="labels", note=note)


def matrix(
    drops: Sequence[Drop], base: Sequence[Row], erased: Sequence[Row], axis: str, label: str
) -> Panel:
    """What was asked for by what was seen after erasing, as a heat map: the concept first, then the
    labels by their drop, those with too few images last.

    Args:
        drops: see ``Entanglement.drops``.
        base, erased: rows of both sides.
        axis, label: the concept's.
    """
    distance = {d.label: d.distance for d in drops}
    asked = Counter(row.asked for row in erased)
    few = sorted(asked.keys() - distance.keys() - {label})
    order = [name for name in (label, *distance, *few) if asked[name]]
    counts = Counter((row.asked, row.seen) for row in erased)
    before = Counter(row.asked for row in base if row.seen == row.asked)
    shown = [*order, *sorted({seen for _, seen in counts} - set(order))]
    columns = [Column(axis, "asked for"), Column("before", "before", "%")]
    columns += [Column("distance", "distance")]
    columns += [Column(f"seen {name}", phrases.words(name)) for name in shown]
    rows = []
    for name in order:
        n = asked[name]
        size = f"{n} images" + (": too few" if name in few else "")
        apart = distance.get(name)
        cells = {
            axis: Cell(phrases.words(name), size),
            "before": Cell(phrases.number(before[name] / n)),
            "distance": Cell(DASH if apart is None else phrases.distance(apart)),
        }
        for seen in shown:
            k = counts[name, seen]
            cells[f"seen {seen}"] = Cell(str(k) if k else "", shade=k / n)
        rows.append(cells)
    about = (
        f"Images after erasing: each row a label that was asked for, each column what the judge "
        f"sees. Before is the share in which the base model’s images show what was asked for; "
        f"distance is that of the base images’ mean features from those of {phrases.words(label)}. "
        f"Labels with fewer than {FEW} images count towards no figure.",
    )
    return Panel(f"What each {axis} turns into", about, tuple(columns), tuple(rows))


def build(setting: Setting) -> Entanglement:
    """Opens the bundled judges, and the feature network of ``fidelity``.

    Raises:
        UserError: an instrument that can't be opened.
    """
    classifier = build_bundled(setting)
    fidelity = build_fidelity(setting) if classifier.judges else FidelityMetric(None)
    return Entanglement(classifier, fidelity)
