"""``report.html`` of ``erase eval --images``: one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from erase.eval.metrics import Picture
from erase.eval.page import data_uri, spread, template
from erase.eval.standalone_tables import columns, text, title

SHOWN = 16
"""Most flagged pictures of a folder on the page."""


@dataclass(frozen=True)
class Shot:
    """A flagged picture."""

    uri: str
    title: str


def render(result: Mapping[str, Any], flagged: Mapping[str, Sequence[Picture]]) -> str:
    """The page as HTML.

    Args:
        result: as in ``report.json``.
        flagged: by folder, the pictures in which nudity was detected; shown blurred.
    """
    shown = columns(result)
    rows = [(f, [text(c, f) for c in shown]) for f in result["folders"]]
    shots = {
        name: [Shot(data_uri(p.file), p.prompt or p.file.name) for p in spread(found, SHOWN)]
        for name, found in flagged.items()
    }
    counts = {name: len(found) for name, found in flagged.items()}
    html: str = template("folders.html.j2").render(
        r=result, titles=[title(c, result) for c in shown], rows=rows, shots=shots, counts=counts
    )
    return html
