"""What a user did wrong, said in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it and exits with code 2."""


def nearest(name: str, options: Iterable[str]) -> str:
    """`` Did you mean 'x'?``, or nothing where no option is near."""
    found = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f" Did you mean '{clipped(found[0])}'?" if found else ""


def clipped(value: object, most: int = 80) -> str:
    """The text of ``value`` on one line, at most ``most`` characters of it."""
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 1]}…"


def few(names: Iterable[object], most: int = 3) -> str:
    """The first names, quoted, and how many more there are: ``'a', 'b', 'c' and 12 more``."""
    found = list(names)
    shown = ", ".join(f"'{clipped(name, 60)}'" for name in found[:most])
    return shown if len(found) <= most else f"{shown} and {len(found) - most} more"


def reason(error: BaseException) -> str:
    """What a library's exception says, short enough to stand in a sentence."""
    told = (error.strerror if isinstance(error, OSError) else None) or str(error)
    lines = told.strip().splitlines()
    return clipped(lines[0] if lines else type(error).__name__, 120)
