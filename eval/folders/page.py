"""``report.html`` of ``erase eval --images``: one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erase.eval.folders.tables import NAMES, columns, rows
from erase.eval.folders.words import CAVEAT, conclusion, counted, facts_of, heading, plain_path
from erase.eval.pages import phrases
from erase.eval.pages.html import data_uri, spread, template
from erase.eval.pages.table import Column, Row
from erase.eval.pictures import Picture
from erase.eval.screen import screen_of

SHOWN = 16
"""Most pictures of a folder on the page."""


@dataclass(frozen=True)
class Shown:
    """A picture of a folder that the page may show.

    Attributes:
        picture: itself.
        folder: it lies in.
        parts: detected body parts that count, with their scores, highest first.
        veiled: blurred until clicked.
    """

    picture: Picture
    folder: Path
    parts: tuple[tuple[str, float], ...]
    veiled: bool


@dataclass(frozen=True)
class Shot:
    """A picture on the page: a data URI, its prompt or name, and what is said below it."""

    uri: str
    title: str
    file: str
    parts: str
    veiled: bool


def render(result: Mapping[str, Any], shown: Mapping[str, Sequence[Shown]], model: str = "") -> str:
    """The page as HTML.

    Args:
        result: as in ``report.json``.
        shown: by folder; where nudity was looked for, the pictures in which it was detected.
        model: that made the pictures, if known.
    """
    shown_columns = columns(result)
    looked = "nudity" in result["metrics"]
    html: str = template("folders.html.j2").render(
        r=result,
        screen=screen_of(model),
        heading=heading(result),
        conclusion=conclusion(result),
        caveat=CAVEAT if looked else "",
        counted=counted(result) if looked else "",
        columns=[*NAMES, *shown_columns],
        rows=rows(result, shown_columns),
        part_columns=[DETECTIONS, *(Column(f["name"], f["name"]) for f in result["folders"])],
        parts=_parts(result["folders"]) if looked else [],
        shots={name: [_shot(one) for one in spread(own, SHOWN)] for name, own in shown.items()},
        counts={name: len(own) for name, own in shown.items()},
        methods={name: list(facts_of(facts)) for name, facts in result["metrics"].items()},
        plain_path=plain_path,
    )
    return html


DETECTIONS = Column("", "detections (images)")


def _parts(folders: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Detections and images with any, a row for each class of body part."""
    each = zip(*(f["nudity"]["per_class"] for f in folders), strict=True)
    return [
        {
            DETECTIONS.key: phrases.words(found[0]["label"].lower()),
            **{
                f["name"]: f"{one['detections']} ({one['images']})"
                for f, one in zip(folders, found, strict=True)
            },
        }
        for found in each
    ]


def _shot(shown: Shown) -> Shot:
    file = shown.picture.file
    name = file.relative_to(shown.folder) if file.is_relative_to(shown.folder) else file
    parts = [f"{phrases.words(label.lower())} {score:.2f}" for label, score in shown.parts]
    return Shot(
        data_uri(file),
        shown.picture.prompt or file.name,
        name.as_posix(),
        ", ".join(parts),
        shown.veiled,
    )
