"""One writer of a folder at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from erase.runtime import processes


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keeps other commands from writing a folder, which is made; of several processes the first one
    holds the lock.

    Raises:
        UserError: another command does already.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    problem = None
    if processes.is_main():
        try:
            lock.acquire()
        except Timeout:
            problem = f"Another process is writing {folder}: wait for it, or choose another --out."
    processes.agree(problem)
    try:
        yield
    finally:
        lock.release()
