"""Models on disk: folders, single files, deltas, and other people's.

A format is a module of this package that has what ``Format`` names at its top; whatever else lies
here is what formats share.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from erase.runtime.errors import UserError, clipped, nearest
from erase.runtime.modules import modules

if TYPE_CHECKING:
    from torch import Tensor

    from erase.formats.base import Base


@dataclass(frozen=True)
class How:
    """How an export is wanted.

    Attributes:
        dtype: of the weights, as torch names it; None keeps each tensor's own.
        base: the model that the exported one belongs to, where it is told.
        options: the format's own, see ``Target``.
    """

    dtype: str | None = None
    base: Base | None = None
    options: Any = None


class Format(Protocol):
    """A way in which models lie on disk.

    Attributes:
        NAME: what users call it.
        ENDS: suffixes of its files; none for folders.
        WHOLE: whether it holds a whole pipeline, rather than a denoiser that wants a base.
    """

    NAME: str
    ENDS: tuple[str, ...]
    WHOLE: bool

    def reads(self, path: Path) -> bool:
        """Whether something on disk is of this format, as far as name and header tell."""
        ...

    def read(self, path: Path, base: Base) -> dict[str, Tensor]:
        """A denoiser's tensors by parameter name; where the format is not whole, maybe only those
        that differ from the base's, or text encoders' (see ``Layout.joined``).

        Raises:
            UserError: it can't be read, or differs from its base in more than the denoiser.
        """
        ...


class Target(Format, Protocol):
    """A format that models are exported to.

    One that has options states them as ``Options``, a frozen dataclass that checks itself: each
    field is a flag of ``erase export``, with its ``help`` in the metadata. One with
    ``LEARNED = True`` holds what was learned, for the very base of the run; a delta may also be for
    that base in another precision.

    Attributes:
        WRITES: suffix of such a target; "" for a folder.
        KIND: its name after ``--format``.
        HELP: what such a target holds.
    """

    WRITES: str
    KIND: str
    HELP: str

    def write(self, model: Base, target: Path, how: How) -> str:
        """Exports a model; where the format is whole, a folder to a file or a file to a folder.

        Returns:
            One line that says what was written.

        Raises:
            UserError: the model can't be read or written so, or options don't go together.
        """
        ...


class WholeFile(Format, Protocol):
    """A format of files that hold a whole pipeline."""

    def unpack(
        self, file: Path, folder: Path, config: Path | None, prediction: str | None
    ) -> dict[str, dict[str, Tensor]]:
        """A file's tensors by component, its configurations in an empty ``folder``.

        Args:
            file, folder: where they lie.
            config: pipeline folder that states the configuration, where the file does not.
            prediction: what the model predicts, where the file does not say so.

        Raises:
            UserError: it can't be read.
        """
        ...


def formats() -> tuple[Format, ...]:
    """All of them."""
    return tuple(cast(Format, m) for m in modules(__name__) if hasattr(m, "reads"))


def targets() -> tuple[Target, ...]:
    """Those that models are exported to."""
    return tuple(cast(Target, form) for form in formats() if hasattr(form, "WRITES"))


def target(kind: str) -> Target:
    """The format that ``--format`` calls so.

    Raises:
        UserError: none does.
    """
    found = {form.KIND: form for form in targets()}
    if kind not in found:
        raise UserError(
            f"There is no format '{clipped(kind)}': choose from {', '.join(found)}."
            f"{nearest(kind, found)}"
        )
    return found[kind]


def whole_files() -> tuple[WholeFile, ...]:
    """Those of files that hold a whole pipeline."""
    return tuple(cast(WholeFile, form) for form in formats() if form.WHOLE and form.ENDS)


def format_of(path: Path) -> Format:
    """The format of something on disk.

    Raises:
        UserError: none of them.
    """
    for form in formats():
        if form.reads(path):
            return form
    ends = dict.fromkeys(end for form in formats() for end in form.ENDS)
    raise UserError(f"{path} is not a model file: give a folder, or one of {', '.join(ends)}.")
