"""A report as Python hands it out: the content of ``report.json``, with its main figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erase.runtime.errors import UserError, reason

FIGURES = ("ua", "ra", "ira", "cra", "became_anchor")
"""Keys of the figures in a report's summary."""
VERDICTS = ("returns", "hidden", "inconclusive", "removed")
"""What attacks come to, the worst first."""
ORDER = ("not erased", "nothing concluded", "undecided", "partly erased", "erased")
"""What is concluded about a concept, the weakest first."""


class Report(dict[str, Any]):
    """The content of ``report.json``; of several concepts, a property is the least of theirs."""

    @property
    def concepts(self) -> tuple[Report, ...]:
        """The reports of a run's concepts; of one concept, the report itself."""
        return tuple(map(Report, self.get("concepts", ()))) or ((self,) if self else ())

    @property
    def ua(self) -> float | None:
        """Unlearning accuracy, a fraction: forget images in which the concept is not recognised.

        For nudity, 1 - the share of flagged images. None where it was not measured.
        """
        return self.figure("ua")

    @property
    def ra(self) -> float | None:
        """Retain accuracy, a fraction; None where it was not measured."""
        return self.figure("ra")

    @property
    def ira(self) -> float | None:
        """In-domain retain accuracy, a fraction; None where it was not measured."""
        return self.figure("ira")

    @property
    def cra(self) -> float | None:
        """Cross-domain retain accuracy, a fraction; None where it was not measured."""
        return self.figure("cra")

    @property
    def recovery(self) -> str | None:
        """The verdict of the attacks on the model: returns, hidden, removed or inconclusive; None
        where it was not attacked. Of several concepts, the first of these that is one's."""
        told = {one["recovery"]["verdict"] for one in self.concepts if one.get("recovery")}
        return next((verdict for verdict in VERDICTS if verdict in told), None)

    @property
    def harmonic(self) -> float | None:
        """Harmonic mean of UA, IRA and CRA, as far as they were measured; None without any."""
        return self.figure("harmonic")

    @property
    def conclusion(self) -> str | None:
        """``erased``, ``partly erased``, ``not erased``, ``undecided`` or ``nothing concluded``;
        None without a report, or with one of an earlier version."""
        found = [(one.get("conclusion") or {}).get("verdict") for one in self.concepts]
        return None if None in found else min(found, key=ORDER.index, default=None)

    @property
    def damaged(self) -> bool | None:
        """Whether damage was shown; None where there was too little to look at."""
        found = [(one.get("conclusion") or {}).get("damaged") for one in self.concepts]
        return True if True in found else None if None in found or not found else False

    def figure(self, name: str) -> float | None:
        """One of the figures after erasing by its name, see ``measured``."""
        values = [measured(one, name)[0] for one in self.concepts]
        known = [value for value in values if value is not None]
        return min(known) if known and len(known) == len(values) else None


def measured(report: Mapping[str, Any], name: str) -> tuple[float | None, int]:
    """A figure of one concept after erasing, a fraction, and the images it was counted on.

    Args:
        report: with a ``summary``, and ``nudity`` where that was looked for.
        name: one of ``FIGURES``, ``harmonic``, or the key of another metric's figure.

    Returns:
        The figure and n; (None, 0) where it was not measured.
    """
    if name == "harmonic":
        each = [measured(report, part) for part in ("ua", "ira", "cra")]
        known = [(value, n) for value, n in each if value is not None]
        if not known:
            return None, 0
        values = [value for value, _ in known]
        mean = 0.0 if min(values) == 0 else len(values) / sum(1 / value for value in values)
        return mean, min(n for _, n in known)
    share = share_of(report, "erased", name)
    if name not in FIGURES:
        share = next((row for row in report.get("figures", ()) if _is_erased(row, name)), None)
    return (float(share["value"]), int(share["n"])) if share else (None, 0)


def share_of(report: Mapping[str, Any], side: str, name: str) -> dict[str, Any] | None:
    """A share of images of a side with its interval; None where it was not measured.

    Args:
        report: see ``measured``.
        side: ``base`` or ``erased``.
        name: one of ``FIGURES``; ``ua`` of nudity is 1 - the share of flagged images.
    """
    exposed = report.get("nudity")
    if name == "ua" and exposed and report["concept"]["kind"] == "nudity":
        flagged = exposed["compared"][side]["share"]
        ends = {"value": "value", "low": "high", "high": "low"}
        return flagged and {"n": flagged["n"], **{k: 1 - flagged[v] for k, v in ends.items()}}
    found: dict[str, Any] | None = report["summary"][side].get(name)
    return found


def _is_erased(row: Mapping[str, Any], key: str) -> bool:
    """Whether a row of ``figures`` is this one after erasing, of all images."""
    told = (row["key"], row["side"], row["group"])
    return told == (key, "erased", "") and row["value"] is not None


def load_report(path: str | Path) -> Report:
    """Opens a report.

    Args:
        path: a ``report.json``, or the run folder that holds it.

    Returns:
        Its content as a mapping; ``report.ua``, ``report.ira``, ``report.conclusion`` and others
        are its main figures.

    Raises:
        UserError: there is none, or it is damaged.
    """
    file = Path(path)
    file = file / "report.json" if file.is_dir() else file
    found = read_object(file)
    if not isinstance(found.get("verdict"), list):
        raise UserError(f"{file} is not a run's report: delete it and run again.")
    return Report(found)


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object that a stage wrote.

    Raises:
        UserError: there is none, or it is damaged.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except OSError as error:
        raise UserError(f"There is no {file}: run 'erase run' first.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{file} can't be read ({reason(error)}): delete it and run again."
        ) from error
    return found
