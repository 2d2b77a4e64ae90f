"""Prompts x seeds -> images with a manifest, for the base and the erased model alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from erase.images.request import Request

if TYPE_CHECKING:
    from erase.prompts.prompt_set import Row

OTHER_SEEDS = 500_000_000
"""Added to every seed for the second base set, whose distance to the first is the floor."""


def plan(
    rows: Sequence[Row], count: int, set_name: str, role: str, shift: int = 0
) -> list[Request]:
    """``count`` images spread evenly over the rows: k = 0 for every row, then k = 1, …

    The image (row, k) has the seed ``row.seed + k + shift``, so that k = 0 is the published
    protocols' image of that row.

    Args:
        rows: prompts in the order in which they are used up.
        count: images, >= 0.
        set_name: name of the prompt set.
        role: ``forget`` or ``retain``.
        shift: of all seeds.
    """
    picked = ((k, rows[i]) for k in range(-(-count // max(len(rows), 1))) for i in range(len(rows)))
    requests = [
        Request(
            set=set_name,
            case_number=row.case_number,
            k=k,
            prompt=row.prompt,
            seed=row.seed + k + shift,
            role=role,
            labels=dict(row.labels),
            guidance=row.guidance,
            size=(row.height, row.width) if row.height or row.width else None,
        )
        for k, row in picked
    ]
    return requests[:count]
