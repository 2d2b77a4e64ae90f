"""What is said on a user's terminal beside results: our own sentences, and no library's notes."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TextIO

from erase.runtime import processes


class Note(UserWarning):
    """Something that a user should know; the command line prints it as a sentence."""


@cache
def note(text: str) -> None:
    """Says a sentence on stderr, once; of several processes the first one does."""
    if processes.is_main():
        print(f"erase: {text}", file=sys.stderr, flush=True)


@contextmanager
def own_words() -> Iterator[None]:
    """Keeps libraries' warnings and log lines off the terminal for the time of a command.

    Whoever asks for them by ``python -W`` or ``PYTHONWARNINGS`` gets all warnings as they are.
    """
    # Read when the libraries are imported; each has a log of its own that reaches the terminal.
    for library in ("TRANSFORMERS", "DIFFUSERS", "HF_HUB"):
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    # Without any handler, Python prints every library's log from warnings on.
    silent = logging.NullHandler()
    logging.getLogger().addHandler(silent)
    try:
        with warnings.catch_warnings():
            if not sys.warnoptions:
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", Note)
                warnings.showwarning = _show
            yield
    finally:
        logging.getLogger().removeHandler(silent)


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Takes the place of ``warnings.showwarning``."""
    if issubclass(category, Note):
        note(str(message))
