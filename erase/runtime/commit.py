"""Which commit of the code is running."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
CHANGED = " with uncommitted changes"


@cache
def commit(folder: Path = HERE) -> str | None:
    """The commit of the code in a folder, with a remark where files differ from it; None where it
    is not known, as of a package from an index.

    Args:
        folder: of a package with an ``__init__.py``, in a clone of its repository or installed.
    """
    # A folder of packages may lie in a repository of something else, which does not track it.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return _installed()
    found = _git(folder, "rev-parse", "HEAD")
    if not found:
        return None
    return found + (CHANGED if _git(folder, "status", "--porcelain", "-uno") else "")


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None where it is missing or refuses."""
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            check=True,
            text=True,
            timeout=5,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        ).stdout.strip()
    return None


def _installed() -> str | None:
    """The commit that pip took the package from (PEP 610)."""
    with suppress(PackageNotFoundError, ValueError, AttributeError):
        told = json.loads(distribution("erase-diffusion").read_text("direct_url.json") or "{}")
        found = told.get("vcs_info", {}).get("commit_id")
        return str(found) if found else None
    return None
