"""Progress bars, all of them: nothing for what is soon done, and lines where there is no terminal.

A bar appears once its work has taken ``DELAY`` seconds. Where stderr is no terminal, a line is
written every ``SPARSE`` seconds instead, so that a log file says how far the work is. Of several
processes the first one alone shows any.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from erase.runtime import processes

if TYPE_CHECKING:
    from tqdm import tqdm

T = TypeVar("T")

DELAY, SPARSE = 2.0, 30.0
"""Seconds before a bar appears; between two lines of a log."""
SIZE = 80, 24
"""Columns and lines of a terminal that says it has none, as in some containers."""
LINE = "{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed} so far, {remaining} to go{postfix}"
"""A line of a log."""


def progress(title: str, total: int, unit: str, done: int = 0) -> tqdm[Any]:
    """A bar to be moved on with ``update`` and closed, or given to ``each``.

    Args:
        title: what is done, and by what.
        total: units of the whole work.
        unit: what is counted, in the singular.
        done: units that an earlier command did.
    """
    from tqdm import tqdm

    ways: dict[str, Any]
    if terminal := sys.stderr.isatty():
        size = (None, None) if _sized() else SIZE
        ways = {"mininterval": 0.5, "ncols": size[0], "nrows": size[1]}
    else:
        ways = {"mininterval": SPARSE, "bar_format": LINE, "file": _Lines(sys.stderr)}
    bar = tqdm(
        total=total,
        desc=title,
        unit=unit,
        initial=done,
        delay=DELAY,
        miniters=1,
        disable=total == done or not processes.is_main(),
        **ways,
    )
    if terminal and not bar.disable:
        # A first unit may take minutes: what is going on shows before it is done.
        timer = threading.Timer(DELAY, _appear, [weakref.ref(bar)])
        timer.daemon = True
        timer.start()
    return bar


def each(items: Iterable[T], bar: tqdm[Any]) -> Iterator[T]:
    """The items, each of which moves the bar on by one when it is done."""
    with bar:
        for item in items:
            yield item
            bar.update()


def _appear(found: weakref.ref[tqdm[Any]]) -> None:
    bar = found()
    if bar is None:
        return
    with bar.get_lock():  # type: ignore[no-untyped-call]
        if not bar.disable and bar.last_print_t == bar.start_t:
            bar.last_print_t = time.time()
            bar.refresh(nolock=True)


def _sized() -> bool:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except OSError:
        return False


class _Lines:
    """A file for tqdm whose every state is a line of its own, not one written over the last."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.last = ""

    def write(self, text: str) -> None:
        if (text := text.strip()) not in ("", self.last):
            self.last = text
            self.file.write(f"{text}\n")

    def flush(self) -> None:
        self.file.flush()
