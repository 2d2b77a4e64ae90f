"""From the command line's flags to the objects that runs are made of."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jsonargparse import Namespace

from erase.methods import list_methods
from erase.recipes.recipe import (
    flags,
)

if TYPE_CHECKING:
    from erase.eval.instruments.choice import Instruments
    from erase.runs.manner import Manner
    from erase.runs.task import Compute


def recipe_values(options: Namespace) -> dict[str, Any]:
    """The recipe values given as flags."""
    names = {f.name for m in list_methods() for f in flags(m)} - {"name", "method"}
    return {n: options[n] for n in sorted(names) if options.get(n) is not None}


def instruments(options: Namespace, earlier: Mapping[str, Any] | None = None) -> Instruments:
    """What the flags name, or an earlier command did."""
    from erase.eval.instruments.choice import Instruments

    before = earlier or {}
    specs = {k: options[k] or before.get(k) for k in ("judge", "clip", "features", "lpips")}
    given = {k: v for k, v in vars(options.nudity).items() if v is not None}
    counted = {**(before.get("nudity") or {}), **given}
    if not counted:
        return Instruments(**specs)
    from erase.eval.instruments.nudenet import Config

    return Instruments(**specs, nudity=Config(**counted))


def compute(options: Namespace, earlier: Mapping[str, Any] | None = None) -> Compute:
    """As the flags say, or said for an earlier command."""
    from erase.runs.task import Compute

    before = earlier or {}
    return Compute(
        device=options.device,
        deterministic=options.deterministic,
        channels_last=options.channels_last or bool(before.get("channels_last")),
        compiled=options.compile or bool(before.get("compiled")),
    )


def manner_of(options: Namespace) -> Manner:
    from erase.runs.manner import PREVIEW, Manner

    preview = options.get("preview")
    return Manner(
        anyway=bool(options.get("anyway")),
        preview=PREVIEW if preview is None else preview,
        tracker=options.get("tracker"),
    )


def names(given: Sequence[str] | None) -> list[str]:
    """Names by commas, as in a CSV file: one that holds a comma stands in double quotes."""
    rows = csv.reader(given or [], skipinitialspace=True)
    return [name.strip() for row in rows for name in row if name.strip()]


def one_or_more(given: list[str] | None) -> str | list[str] | None:
    """A flag that may be given several times: its value, or a list of several."""
    return given[0] if given and len(given) == 1 else given
