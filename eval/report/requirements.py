"""``--require ua=0.95,ira=0.9``: a run that falls short ends with exit code 3."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from erase.eval.report.result import FIGURES, measured
from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.words import counted

KNOWN = (*FIGURES, "harmonic")
ROUNDING = 1e-9
"""By which a share that was computed may fall short of the same one that was typed."""
LEAST = 10
"""Images below which a figure meets nothing."""


class RequirementError(Exception):
    """A report falls short; its message has a sentence for each requirement that is not met."""


def parse(text: str) -> dict[str, float]:
    """``ua=0.95,ira=0.9`` by figure.

    Raises:
        UserError: an unknown figure, one that is named twice, or a number out of range.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise UserError(
                f"--require {clipped(text)} is not a list of FIGURE=LEAST: write ua=0.95,ira=0.9."
            )
        if name in found:
            raise UserError(f"--require names {name} twice: give one value for each figure.")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise UserError(
                f"--require {name}={clipped(value)} is not a number: give a fraction in [0, 1]."
            ) from error
    return checked(found)


def checked(required: Mapping[str, float]) -> dict[str, float]:
    """The requirements, if they can be asked for.

    Raises:
        UserError: an unknown figure, or a number out of range.
    """
    known = [*KNOWN]
    if not {*required} <= {*known}:
        known += [key for key in _shares() if key not in known]
    for name, least in required.items():
        if name not in known:
            raise UserError(
                f"There is no figure '{clipped(name)}' to require: choose from {', '.join(known)}."
                f"{nearest(name, known)}"
            )
        if not (math.isfinite(least) and 0 <= least <= 1):
            raise UserError(
                f"--require {name}={least:g} is not in [0, 1]: give a fraction, e.g. 0.95 for "
                "95\u00a0%."
            )
    return dict(required)


def _shares() -> list[str]:
    """Figures of the metrics that are fractions, and better the higher they are."""
    from erase.eval.metrics import columns, ranked

    every = (column for name in ranked() for column in columns(name))
    return [column.key for column in every if (column.unit, column.better) == ("%", "up")]


def unmet(
    report: Mapping[str, Any], required: Mapping[str, float], of: str | None = None
) -> list[str]:
    """A sentence for each requirement that a report of one concept does not meet.

    Args:
        report: see ``result.measured``.
        required: by figure, the least value, a fraction.
        of: what the figures are of, to be named.
    """
    lines = []
    for name, least in required.items():
        value, n = measured(report, name)
        if name == "harmonic" and all(measured(report, k)[0] is None for k in ("ira", "cra")):
            value = None  # of UA alone, which a model that draws nothing meets
        what = f"{name} of {of}" if of else name
        asked = f"{least:g} or more is required"
        if value is None:
            lines.append(f"{what} was not measured, but {asked}.")
        elif n < LEAST:
            lines.append(
                f"{what} was counted on {counted(n, 'image')}, but at least {LEAST} are needed to "
                f"meet {name}={least:g}."
            )
        elif value < least - ROUNDING:
            lines.append(f"{what} is {value:.4g}, but {asked}.")
    return lines


def check_report(
    report: Mapping[str, Any], required: Mapping[str, float], of: str | None = None
) -> None:
    """Holds a run's report to its requirements, each concept of several.

    Args:
        of: the run, where it is one of several.

    Raises:
        RequirementError: some are not met.
    """
    several = report.get("concepts")
    lines: list[str] = []
    for one in several or (report,):
        lines += unmet(one, required, one["concept"]["name"] if several else of)
    if lines:
        raise RequirementError("\n".join(lines))


def check_folders(result: Mapping[str, Any], required: Mapping[str, float]) -> None:
    """Holds every folder of ``erase eval --images`` but the base side to the requirements.

    Of nudity, or where no concept was named, UA is 1 - the share of flagged images.

    Raises:
        RequirementError: some are not met.
    """
    lines: list[str] = []
    for folder in result["folders"]:
        if folder["name"] != result["base"]:
            figures = dict(folder.get("classifier") or {})
            exposed = folder.get("nudity")
            kind = result.get("kind")
            asked = kind == "nudity" or (kind is None and not figures.get("ua"))
            if asked and exposed and exposed["share"]:
                share = exposed["share"]
                figures["ua"] = {"value": 1 - share["value"], "n": share["n"]}
            rows = [{**row, "side": "erased"} for row in folder.get("figures", ())]
            found = {"summary": {"erased": figures}, "figures": rows}
            lines += unmet(found, required, folder["name"])
    if lines:
        raise RequirementError("\n".join(lines))
