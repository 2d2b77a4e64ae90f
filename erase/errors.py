"""What a user did wrong, said in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it and exits with code 2."""


def reason(error: BaseException, limit: int = 150) -> str:
    """The first line of what a library says went wrong, cut to ``limit`` characters."""
    line = next((text.strip() for text in str(error).splitlines() if text.strip()), "")
    return brief(line or type(error).__name__, limit)


def brief(text: str, limit: int = 60) -> str:
    """A text for a message, cut to ``limit`` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def nearest(name: str, options: Iterable[str]) -> str:
    """`` Did you mean 'x'?``, or nothing where no option is near."""
    found = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""
