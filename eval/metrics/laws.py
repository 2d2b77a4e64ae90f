"""Render laws: whether images of the bundled drawn world are still drawn by the laws of that world.

Every drawing's size, place, angle, mirroring and background were drawn from a known distribution
(``erase.mini.world.place``), which ``erase.eval.instruments.drawings`` reads back from the retained
images, with two figures for each law:

    KS        sup |F(x) - F₀(x)|, F of the images and F₀ the law itself
    variety   variance of the images of one object in one style, pooled over them, divided by that
              of the base model's images of the same prompts

A model that makes one image over and over has a variety near 0 at an unchanged accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erase.eval.figure import Figure, figure, from_list
from erase.eval.instruments import drawings
from erase.eval.instruments.drawings import Reading
from erase.eval.instruments.setting import Setting
from erase.eval.metrics import Seen
from erase.eval.pages import phrases
from erase.eval.pages.table import Cell, Column, Panel
from erase.eval.pictures import Picture
from erase.eval.stats.intervals import CONFIDENCE, RESAMPLES, Average, share
from erase.eval.store import measured_labelled

COLUMNS = (
    Column(
        "laws_ks",
        "render laws, KS",
        "",
        "down",
        "Render laws",
        "largest Kolmogorov–Smirnov distance of the retained images’ size, place, angle, mirroring "
        "or background from the law that the world draws it by; the interval holds for all laws",
        3,
    ),
    Column(
        "laws_variety",
        "variety",
        "",
        "up",
        "Variety",
        "smallest variance of one of these, as a multiple of that of the base’s images of the same "
        "prompts: 1 is as varied, 0 is one image over and over; the interval holds for all laws",
        2,
    ),
    Column(
        "laws_read",
        "readable drawings",
        "%",
        "up",
        about="retained images whose outline is that of the drawing asked for; size, place, angle "
        "and mirroring can be read of no others",
    ),
)
COMPARED = tuple(map(from_list, COLUMNS))
AGAINST = "base"
NEEDS = {"concept": "Render laws need --concept, one of the bundled model's: mini/NAME."}
RANK = 25
ELSEWHERE = "not measured: only the bundled drawn world has known laws"
UNKNOWN = "not measured: no image has labels of the bundled drawn world"
FEWEST = 20
"""Images that a law is read from, at least."""
FREEDOM = 10
"""Images less one for each object and style that a variance is taken over, at least."""


@dataclass(frozen=True)
class Row:
    """One image: its object and style, and what it shows."""

    drawing: tuple[str, str]
    shown: Reading


@dataclass(frozen=True)
class Law:
    """A law of the drawn world.

    Attributes:
        name: as tables print it.
        words: the law.
        of: where a reading stands in the law's distribution function, [0, 1] where it is uniform;
            None where it was not read.
        value: what the variance is taken of; empty where it was not read, or where a variance says
            no more than the mean.
    """

    name: str
    words: str
    of: Callable[[Reading], float | None]
    value: Callable[[Reading], tuple[float, ...]]


def _uniform(key: str, name: str, law: tuple[float, float], scale: float, unit: str) -> Law:
    low, high = law

    def of(shown: Reading) -> float | None:
        value: float | None = getattr(shown, key)
        return None if value is None else (value - low) / (high - low)

    def value(shown: Reading) -> tuple[float, ...]:
        own = getattr(shown, key)
        if own is None or key != "hue":
            return () if own is None else (own,)
        return math.cos(math.radians(own)), math.sin(math.radians(own))

    ends = (f"{end * scale:g}".replace("-", phrases.MINUS) for end in law)
    return Law(name, f"uniform, {' to '.join(ends)}{unit}", of, value)


def _place(key: str, name: str) -> Law:
    def of(shown: Reading) -> float | None:
        value: float | None = getattr(shown, key)
        if value is None or shown.side is None or shown.side >= 1:
            return None
        return (value - shown.side / 2) / (1 - shown.side)

    def value(shown: Reading) -> tuple[float, ...]:
        own = getattr(shown, key)
        return () if own is None else (own,)

    return Law(name, "uniform, the whole box inside the picture", of, value)


def _mirror(shown: Reading) -> float | None:
    return None if shown.mirror is None else float(shown.mirror > 0)


MIRROR = Law("mirroring", "one half", _mirror, lambda shown: ())


def laws() -> tuple[Law, ...]:
    """The laws of ``mini.world.place``."""
    own = drawings.LAWS
    return (
        _uniform("side", "size", own["side"], 100, " % of the picture"),
        _place("x", "place across"),
        _place("y", "place down"),
        _uniform("angle", "angle", own["angle"], 1, "°"),
        MIRROR,
        _uniform("hue", "hue", own["hue"], 1, "°"),
        _uniform("saturation", "saturation", own["saturation"], 1, " %"),
        _uniform("lightness", "lightness", own["lightness"], 1, " %"),
    )


@dataclass(frozen=True)
class Distance:
    """How far the images are from a law.

    Attributes:
        law: which.
        value: Kolmogorov–Smirnov distance, in [0, 1].
        n: images that it was read from.
        low, high: interval of the distance, for all laws at once.
    """

    law: Law
    value: float
    n: int
    low: float
    high: float


@dataclass(frozen=True)
class Variety:
    """A law's variance as a multiple of the base's, with an interval for all laws at once."""

    law: Law
    value: float
    n: int
    low: float
    high: float


def distances(rows: Sequence[Row]) -> list[Distance]:
    """Of every law that was read from enough images, the largest first.

    The empirical distribution function of n images lies everywhere within √(ln(2L/α)/2n) of the
    true one, for all L laws at once, with probability 1 - α (Massart 1990, Annals of Probability
    18:1269); Hoeffding's bound for the share of mirrored images is the same.
    """
    found = []
    for law in (every := laws()):
        u = np.sort([x for row in rows if (x := law.of(row.shown)) is not None])
        n = len(u)
        if n < FEWEST:
            continue
        if law is MIRROR:
            value = abs(float(u.mean()) - 0.5)
        else:
            u, steps = u.clip(0, 1), np.arange(n + 1) / n
            value = float(max((steps[1:] - u).max(), (u - steps[:-1]).max()))
        band = math.sqrt(math.log(2 * len(every) / (1 - CONFIDENCE)) / (2 * n))
        found.append(Distance(law, value, n, max(0.0, value - band), min(1.0, value + band)))
    return sorted(found, key=lambda d: -d.value)


def varieties(rows: Sequence[Row], base: Sequence[Row], seed: int = 0) -> list[Variety]:
    """Of every law that enough images were read for on both sides, the smallest first.

    Intervals are by bootstrap over the objects and styles.

    Args:
        seed: of the resampling.
    """
    kinds = sorted({row.drawing for row in (*rows, *base)})
    with_variance = [law for law in laws() if law is not MIRROR]
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(kinds), [1 / len(kinds)] * len(kinds), RESAMPLES)
    tail = 50 * (1 - CONFIDENCE) / len(with_variance)
    found = []
    for law in with_variance:
        own, theirs = (_squares(side, kinds, law) for side in (rows, base))
        if min(own[:, 1].sum(), theirs[:, 1].sum()) < FREEDOM or not theirs[:, 0].any():
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = _variance(drawn @ own) / _variance(drawn @ theirs)
        low, high = np.nanpercentile(ratios, [tail, 100 - tail])
        value = float(_variance(own.sum(0)) / _variance(theirs.sum(0)))
        n = sum(bool(law.value(row.shown)) for row in rows)
        found.append(Variety(law, value, n, min(float(low), value), max(float(high), value)))
    return sorted(found, key=lambda v: v.value)


def _squares(
    rows: Sequence[Row], kinds: Sequence[tuple[str, str]], law: Law
) -> NDArray[np.float64]:
    """For each object and style, squared deviations from the mean, and images less one: (K, 2)."""
    groups: dict[tuple[str, str], list[tuple[float, ...]]] = {kind: [] for kind in kinds}
    for row in rows:
        if value := law.value(row.shown):
            groups[row.drawing].append(value)
    found = []
    for values in groups.values():
        x = np.array(values)
        found.append((((x - x.mean(0)) ** 2).sum(), len(x) - 1) if len(x) > 1 else (0.0, 0))
    return np.array(found, float)


def _variance(squares: NDArray[np.float64]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = squares[..., 0] / squares[..., 1]
    return found


@dataclass(frozen=True)
class Laws:
    """The metric.

    Attributes:
        measures: whether the images are the bundled world's.
        store: see ``measured``.
    """

    measures: bool
    store: Path | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """The laws and how they are read; empty where they are not."""
        if not self.measures:
            return {}
        return {"laws": {law.name: law.words for law in laws()}, **drawings.FACTS}

    def trial(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """See ``metrics.Tried``; looks at a drawing, since other images are soon done with."""
        for _ in images if self.measures else ():
            drawings.read(drawings.example(), *drawings.EXAMPLE)

    def looks_at(self, picture: Picture) -> bool:
        """Retained images."""
        return picture.role == "retain"

    def measure(self, images: Sequence[Picture], against: Sequence[Picture] = ()) -> list[Row]:
        """What can be read from each image with an object and a style of the drawn world."""
        own = [p for p in images if self.measures and drawings.known(*_drawing(p.labels))]
        found = measured_labelled(
            own,
            lambda batch, labels: [
                asdict(drawings.read(image, *_drawing(asked)))
                for image, asked in zip(batch, labels, strict=True)
            ],
            store=self.store,
            by={"drawings": drawings.FACTS},
            title="render laws",
        )
        return [
            Row(_drawing(p.labels), Reading(**shown)) for p, shown in zip(own, found, strict=True)
        ]

    def score(self, rows: Sequence[Row], against: Sequence[Row] = ()) -> list[Figure]:
        """The worst law, the least varied one, and how many drawings could be read."""
        if not rows:
            reason = UNKNOWN if self.measures else ELSEWHERE
            return [figure(column, None, reason=reason) for column in COLUMNS]
        read = sum(row.shown.side is not None for row in rows)
        return [_worst(rows), _least(rows, against), figure(COLUMNS[2], share(read, len(rows)))]

    def panels(self, sides: Mapping[str, Seen]) -> list[Panel]:
        """Every law before and after."""
        base, erased = sides["base"].rows, sides["erased"].rows
        return [table(base, erased)] if erased else []


def _worst(rows: Sequence[Row]) -> Figure:
    found = distances(rows)
    if not found:
        return figure(COLUMNS[0], None, reason=f"not measured: fewer than {FEWEST} images read")
    low, high = max(d.low for d in found), max(d.high for d in found)
    worst = found[0]
    return figure(COLUMNS[0], Average(worst.value, worst.n, low, high), detail=worst.law.name)


def _least(rows: Sequence[Row], against: Sequence[Row]) -> Figure:
    if not against:
        return figure(COLUMNS[1], None, reason="not measured: only beside a base side")
    if rows is against:
        return figure(COLUMNS[1], None, value=1.0, n=len(rows), note="by definition")
    found = varieties(rows, against)
    if not found:
        few = "not measured: too few images of one object in one style"
        return figure(COLUMNS[1], None, reason=few)
    least = found[0]
    return figure(
        COLUMNS[1], Average(least.value, least.n, least.low, least.high), detail=least.law.name
    )


def table(base: Sequence[Row], erased: Sequence[Row]) -> Panel:
    """Every law with its distances before and after, and its variety."""
    before, after = ({d.law.name: d for d in distances(side)} for side in (base, erased))
    varied = {v.law.name: v for v in varieties(erased, base)}
    columns = (
        Column("law", "law"),
        Column("n", "images"),
        Column("before", "KS before", better="down"),
        Column("after", "KS after", better="down"),
        Column("variety", "variety"),
    )
    rows = [
        {
            "law": Cell(law.name, law.words),
            "n": Cell(str(after[law.name].n) if law.name in after else phrases.DASH),
            "before": _cell(before.get(law.name), 3),
            "after": _cell(after.get(law.name), 3),
            "variety": _cell(varied.get(law.name), 2),
        }
        for law in laws()
    ]
    unread = [sum(row.shown.side is None for row in side) for side in (base, erased)]
    about = (
        "The bundled world’s drawings follow known laws, which are read back from the retained "
        "images. KS is the largest distance between the images’ distribution function and the "
        "law’s, 0 to 1; variety is the variance within one object and style, as a multiple of that "
        "of the base’s images of the same prompts: 1 is as varied as the base, 0 is one image over "
        "and over. The base model itself does not follow every law: compare after with before. "
        f"Intervals hold for all laws at once, with 95{phrases.SPACE}% confidence.",
        f"Of {unread[0]} images before and {unread[1]} after, the outline is not that of the "
        "drawing asked for; they count for the background alone. Mirroring can’t be read of "
        "drawings that are nearly symmetric.",
    )
    return Panel("Render laws", about, columns, tuple(rows))


def _cell(found: Distance | Variety | None, digits: int) -> Cell:
    if found is None:
        return Cell(phrases.DASH)
    value, low, high = (f"{x:.{digits}f}" for x in (found.value, found.low, found.high))
    return Cell(value, phrases.span(low, high))


def _drawing(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("object", ""), labels.get("style", "")


def build(setting: Setting) -> Laws:
    """Reads the bundled model's images; no others."""
    return Laws("mini" in (setting.model, setting.concept.family), setting.store)
