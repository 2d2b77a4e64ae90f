"""Metrics, one module each, found by name.

A module ``erase.eval.metrics.NAME`` is all that a metric needs: its figures then stand in every
report, table and comparison. It offers

    build(setting) -> Metric    opens it; what it can't measure there, its figures say as a reason
    COLUMNS                     the figures that it may give, see ``figure.Figure``

and, where the defaults don't fit,

    COMPARED                    its columns in comparisons; without, every figure of its own that
                                cells list has one
    AGAINST                     the second set that it measures against, see ``Second``
    BY_GROUP                    whether every group of prompts has figures of its own
    BEYOND                      roles of ``prompts.groups.GROUPS`` that it looks at
    NEEDS                       what folders can't be measured without, each with a sentence
    RANK                        where its figures stand among those of other metrics
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    TypeVar,
    runtime_checkable,
)

from erase.eval.figure import CellColumn, Figure
from erase.eval.pages.table import Column, Panel
from erase.runtime.errors import UserError, nearest
from erase.runtime.modules import names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from erase.eval.instruments.setting import Setting
    from erase.eval.pictures import Picture

Row = TypeVar("Row")
Second = Literal["base", "reference"]
"""A second set of images: the base model's of the same prompts and seeds, or of other seeds."""
METRICS = Path(__file__).parent
LAST = 100
"""Rank of a metric that states none."""


class Metric(Protocol[Row]):
    """Looks at every image once, then scores what it saw as often as wanted.

    Attributes:
        facts: what the figures depend on, as JSON; printed in the report's provenance.
    """

    @property
    def facts(self) -> dict[str, Any]: ...

    def looks_at(self, picture: Picture) -> bool:
        """Whether a picture counts towards the figures, by its role."""
        ...

    def measure(self, images: Sequence[Picture], against: Sequence[Picture] = ()) -> list[Row]:
        """What each image shows, in order; taken from the store where it was measured before.

        Args:
            images: those that ``looks_at`` chose.
            against: the second set, for a metric of pairs; ``AGAINST`` says which.
        """
        ...

    def score(self, rows: Sequence[Row], against: Sequence[Row] = ()) -> list[Figure]:
        """Figures of the rows, pure; those that are not measured with a reason.

        Args:
            against: rows of the second set; empty for none.
        """
        ...


class Seen(NamedTuple):
    """Images that a metric looked at, and what it saw."""

    images: Sequence[Picture]
    rows: Sequence[Any]


@runtime_checkable
class Sectioned(Protocol):
    """A metric with keys of its own in ``report.json``, beside its figures."""

    def sections(self, sides: Mapping[str, Seen]) -> dict[str, Any]:
        """Fields of ``schema.Report``, and ``reasons`` why one was not measured.

        Args:
            sides: ``base``, ``erased`` and, measured against a reference, ``base2``.
        """
        ...

    def folder(self, seen: Seen, against: Seen | None) -> dict[str, Any]:
        """Keys of a folder in the report of ``erase eval --images``.

        Args:
            against: the second set; None for none, as of the base side itself.
        """
        ...


@runtime_checkable
class Panelled(Protocol):
    """A metric with sections of its own on the report's page, each a table with what to read from
    it."""

    def panels(self, sides: Mapping[str, Seen]) -> Sequence[Panel]:
        """The sections; none where there is nothing to show.

        Args:
            sides: ``base``, ``erased`` and, measured against a reference, ``base2``.
        """
        ...


@runtime_checkable
class Tried(Protocol):
    """A metric whose networks take their time, told before there are images."""

    def trial(self, images: Sequence[NDArray[np.uint8]]) -> None:
        """Looks at RGB images (H, W, 3) as measuring does, to be timed."""
        ...


@runtime_checkable
class Fetched(Protocol):
    """A metric that downloads networks, which ``Setting.fetch`` may forbid for now."""

    @property
    def unfetched(self) -> Sequence[str]:
        """Specs of those that were left closed."""
        ...


def build_metric(name: str, setting: Setting) -> Metric[Any]:
    """Opens a metric by the name of its module.

    Raises:
        UserError: no such metric, or one that can't be opened in this setting.
    """
    metric: Metric[Any] = _module(name).build(setting)
    return metric


def columns(name: str) -> tuple[Column, ...]:
    """The figures that a metric may give."""
    return tuple(_module(name).COLUMNS)


def compared(name: str) -> tuple[CellColumn, ...]:
    """A metric's columns in comparisons; none where it states none."""
    return tuple(getattr(_module(name), "COMPARED", ()))


def against(name: str) -> Second | None:
    """The second set that a metric measures against; None for none."""
    found: Second | None = getattr(_module(name), "AGAINST", None)
    return found


def by_group(name: str) -> bool:
    """Whether a metric is asked about each group of prompts rather than about a side as a whole."""
    return bool(getattr(_module(name), "BY_GROUP", False))


def beyond(name: str) -> frozenset[str]:
    """Groups of prompts that a metric looks at, besides the forget and the retained ones."""
    return frozenset(getattr(_module(name), "BEYOND", ()))


def needs(name: str) -> Mapping[str, str]:
    """What folders can't be measured without, by field of ``folders.Inquiry``, as sentences."""
    found: Mapping[str, str] = getattr(_module(name), "NEEDS", {})
    return found


def ranked() -> list[str]:
    """The metrics in the order in which their figures are told."""
    return sorted(list_metrics(), key=lambda name: getattr(_module(name), "RANK", LAST))


def list_metrics() -> list[str]:
    """The metrics: one module each in ``erase.eval.metrics``."""
    return names(METRICS)


def check_metric(name: str) -> None:
    """Refuses a name that is not a metric's.

    Raises:
        UserError: naming the nearest one.
    """
    if name not in list_metrics():
        raise UserError(
            f"There is no metric '{name}': choose from {', '.join(list_metrics())}."
            f"{nearest(name, list_metrics())}"
        )


def _module(name: str) -> Any:
    check_metric(name)
    return import_module(f"{__name__}.{name}")
