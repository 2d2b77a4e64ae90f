"""What a user did wrong, said in one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it and exits with code 2."""


def nearest(name: str, options: Iterable[str]) -> str:
    """`` Did you mean 'x'?``, or nothing where no option is near."""
    found = difflib.get_close_matches(name, list(options), n=1, cutoff=0.5)
    return f" Did you mean '{found[0]}'?" if found else ""


def short(text: str, most: int = 60) -> str:
    """A prompt as messages show it: its beginning, where it is longer."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
