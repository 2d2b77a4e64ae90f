"""Specs of networks, ``LIBRARY:NAME[@SOURCE]``, and what can go wrong when one is opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from erase.eval.instruments.weights import SUFFIXES
from erase.formats.tensors import refuse_pointer
from erase.runtime.errors import UserError, clipped, nearest, reason

LIBRARIES = ("torchvision", "timm", "open_clip")


def parse_spec(spec: str) -> tuple[str, str, str | None]:
    """Splits a spec into library, name and what follows ``@``; cheap, so that it can run early.

    Raises:
        UserError: no spec, or a file that is not there.
    """
    library, _, rest = spec.partition(":")
    name, at, source = rest.partition("@")
    if library not in LIBRARIES or not name or (at and not source):
        raise UserError(
            f"'{clipped(spec, 100)}' is not a judge: write torchvision:ARCH[@FILE], "
            f"timm:NAME[@FILE] or open_clip:NAME[@FILE].{nearest(library, LIBRARIES)}"
        )
    looks_like_a_file = "/" in source or source.endswith(SUFFIXES) or library != "open_clip"
    if source and looks_like_a_file and not Path(source).exists():
        raise UserError(f"The judge's file {source} does not exist: give the path of one.")
    if source and Path(source).is_file():
        refuse_pointer(Path(source))
    return library, name, source or None


def needs_fetching(spec: str) -> bool:
    """Whether opening a spec may download: its weights are the library's own, or on the hub."""
    _, name, source = parse_spec(spec)
    return not (source and Path(source).exists()) and not name.startswith("local-dir:")


@contextmanager
def fetching(spec: str) -> Iterator[None]:
    """Turns a library's failure to find or fetch weights into one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # whatever the library, its client or a damaged file raises
        raise UserError(
            f"The judge {clipped(spec, 100)} can't be opened ({reason(error)}): check the spec "
            "and the network, or give its weights with @FILE."
        ) from error
