"""The report's pictures: the same prompt and seed before and after, in grids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.eval.pages import phrases
from erase.eval.pages.html import data_uri, mixed, spread
from erase.eval.pictures import Picture
from erase.eval.report.figures import GROUP_NAMES
from erase.prompts.groups import GROUPS
from erase.runtime.words import counted

if TYPE_CHECKING:
    from erase.eval.recognition import Judged


FORGET_SHOWN, RETAIN_SHOWN, EXCEPTIONS_SHOWN, GROUP_SHOWN = 16, 24, 16, 8
"""Most pairs in a grid, whole rows of eight."""


@dataclass(frozen=True)
class Pair:
    """The same prompt and seed before and after.

    Attributes:
        base, erased: images as data URIs.
        title: prompt and seed.
        caption: what was asked for or recognised.
        changed: whether the caption is worth a second look.
        veiled: blurred until clicked.
    """

    base: str
    erased: str
    title: str
    caption: str
    changed: bool
    veiled: bool


@dataclass(frozen=True)
class Grid:
    """A titled grid of pairs."""

    title: str
    note: str
    pairs: Sequence[Pair]


Joined = tuple[Picture, Picture, "Judged", "Judged"]
"""An image before and after, and what the judges say of both."""


def _joined(evidence: Evidence, role: str) -> list[Joined]:
    rows = zip(
        evidence.pictures["base"],
        evidence.pictures["erased"],
        evidence.judged["base"],
        evidence.judged["erased"],
        strict=True,
    )
    return [row for row in rows if row[0].role == role]


def _pairs(report: Mapping[str, Any], evidence: Evidence, chosen: Iterable[Joined]) -> list[Pair]:
    return [
        _pair(
            *row,
            axis=report["target"]["axis"],
            label=report["target"]["label"],
            judged=bool(report["axes"]),
            veiled=report["concept"]["kind"] == "nudity"
            or not evidence.flagged.isdisjoint({row[0].file, row[1].file}),
        )
        for row in chosen
    ]


def pictures(report: Mapping[str, Any], evidence: Evidence) -> list[Grid]:
    """Before and after: the concept, what was kept, and what else moved."""
    word = phrases.called(report["concept"], "the concept")
    axis = report["target"]["axis"]
    forget = spread(_joined(evidence, "forget"), FORGET_SHOWN)
    kept = mixed(_joined(evidence, "retain"), lambda r: r[0].labels.get(axis, ""), RETAIN_SHOWN)
    veiled = report["concept"]["kind"] == "nudity" or report["nudity"] is not None
    grids = [
        Grid(f"Prompts with {word}", "", _pairs(report, evidence, forget)),
        Grid("Retained prompts", "", _pairs(report, evidence, kept)),
        # The detector does not look at these.
        *_other_grids(report, evidence, veiled),
    ]
    return [g for g in grids if g.pairs]


def failures(report: Mapping[str, Any], evidence: Evidence) -> list[Grid]:
    """What went wrong, image by image; a grid without pairs says that nothing did."""
    word = phrases.called(report["concept"], "the concept")
    axis, label = report["target"]["axis"], report["target"]["label"]
    forget, kept = _joined(evidence, "forget"), _joined(evidence, "retain")
    found: list[tuple[str, str, list[Joined]]] = []
    if report["nudity"] is not None and report["concept"]["kind"] == "nudity":
        still = [row for row in forget if row[1].file in evidence.flagged]
        note = f"{len(still)} of {counted(len(forget), 'image')} of forget prompts."
        found.append(("Nudity still detected", note, still))
    if report["axes"]:
        still = [row for row in forget if row[3].said[axis][0] == label]
        lost = [row for row in kept if _all_right(row[2]) and not _all_right(row[3])]
        was, one = ("was", "is") if len(lost) == 1 else ("were", "are")
        found += [
            (
                f"Still recognised as {word}",
                f"{len(still)} of {counted(len(forget), 'image')} with {word} in the prompt.",
                still,
            ),
            (
                "Retained, but no longer recognised",
                f"{len(lost)} of {counted(len(kept), 'retained image')} {was} recognised "
                f"correctly before and {one} not after.",
                lost,
            ),
        ]
    return [
        Grid(title, note, _pairs(report, evidence, spread(rows, EXCEPTIONS_SHOWN)))
        for title, note, rows in found
    ]


def _other_grids(report: Mapping[str, Any], evidence: Evidence, veiled: bool) -> list[Grid]:
    """Before and after of prompts that count towards no accuracy."""
    word = phrases.called(report["concept"])
    pairs = list(
        zip(evidence.others.get("base", ()), evidence.others.get("erased", ()), strict=True)
    )
    axis = report["target"]["axis"]
    found = []
    for role in GROUPS:
        own = [(base, erased) for base, erased in pairs if base.role == role]
        chosen = spread(own, GROUP_SHOWN)
        if role == "neighbour":  # each of them, though they take turns in the set
            chosen = mixed(own, lambda r: r[0].labels.get(axis, r[0].prompt), GROUP_SHOWN)
        shown = [
            Pair(
                data_uri(base.file),
                data_uri(erased.file),
                f"{base.prompt or '(empty prompt)'} (seed {base.seed})",
                "" if role == "empty" else base.prompt,
                False,
                veiled,
            )
            for base, erased in chosen
        ]
        title = GROUP_NAMES[role].format(word=word)
        found.append(Grid(title[0].upper() + title[1:], "", shown))
    return found


def _all_right(row: Judged) -> bool:
    return all(row.right(axis) for axis in row.said if axis in row.labels)


def _pair(
    base: Picture,
    erased: Picture,
    before: Judged,
    after: Judged,
    *,
    axis: str,
    label: str,
    judged: bool,
    veiled: bool,
) -> Pair:
    wrong = [a for a in after.said if a in after.labels and not after.right(a)]
    if not judged:
        caption, changed = base.prompt, False
    elif base.role == "forget":
        got = after.said[axis][0]
        caption, changed = f"→ {phrases.words(got)}", got == label
    elif wrong:
        names = [(phrases.words(after.labels[a]), phrases.words(after.said[a][0])) for a in wrong]
        caption, changed = ", ".join(f"{asked} → {got}" for asked, got in names), True
    else:
        caption, changed = phrases.words(after.labels.get(axis, base.prompt)), False
    return Pair(
        data_uri(base.file),
        data_uri(erased.file),
        f"{base.prompt} (seed {base.seed})",
        caption,
        changed,
        veiled,
    )


@dataclass(frozen=True)
class Evidence:
    """What the page shows besides the figures.

    Attributes:
        pictures: of forget and retained prompts by side, in the same order for base and erased.
        judged: of the same, by side.
        others: of the other prompts, by side, in the same order.
        flagged: files in which nudity was found.
    """

    pictures: Mapping[str, Sequence[Picture]]
    judged: Mapping[str, Sequence[Judged]]
    flagged: Set[Path] = frozenset()
    others: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
