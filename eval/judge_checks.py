"""Whether judges know what they are asked about, and what was assumed of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from erase.eval.instruments.judges import ASSUMED, Judge
from erase.eval.recognition import Judged
from erase.eval.stats.intervals import share
from erase.runtime.errors import UserError

LEAST = 30
"""Images below which a judge is not told from chance."""


def check_knows(judges: Mapping[str, Judge], rows: Sequence[Judged]) -> None:
    """Refuses a judge that does not know what the base model shows: its figures would mean nothing.

    With K labels a guess is right once in K times. A judge whose share of right answers is not
    clearly above that (the Wilson interval does not lie above 1/K) names its outputs wrongly or was
    made for other images. Retained images are asked about; where they are too few, all.

    Args:
        judges: by axis.
        rows: the base side, judged; fewer than 30 with a label tell nothing.

    Raises:
        UserError: naming the judge and what may be wrong.
    """
    for axis, judge in judges.items():
        known = [r for r in rows if axis in r.labels]
        kept = [r for r in known if r.role == "retain"]
        asked = kept if len(kept) >= LEAST else known
        found = share(sum(r.right(axis) for r in asked), len(asked))
        if len(judge.labels) < 2 or len(asked) < LEAST or found is None:
            continue
        if found.low > 1 / len(judge.labels):
            continue
        order = "its labels may not be in the order of its outputs"
        if judge.facts.get("named_by") == ASSUMED:
            order = f"without {judge.spec.partition('@')[2]}.labels.txt their order was assumed"
        raise UserError(
            f"The judge {judge.spec} is no better than chance on the base model's own images by "
            f"{axis} ({round(found.value * found.n)} of {found.n} right, with "
            f"{len(judge.labels)} labels): {order}, or it was made for other images. Give the "
            "labels, or choose another --judge."
        )


def assumed(judges: Mapping[str, Judge]) -> list[str]:
    """A sentence for each file whose outputs were named by assumption, with the order."""
    files = {j.spec: j for j in judges.values() if j.facts.get("named_by") == ASSUMED}
    return [
        f"The outputs of the judge {spec} were assumed to be the images' labels in alphabetical "
        f"order, since no {Path(spec.partition('@')[2]).name}.labels.txt says otherwise: "
        f"{', '.join(judge.labels)}."
        for spec, judge in files.items()
    ]
