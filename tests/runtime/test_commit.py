"""The commit of the code, where it is known."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from erase.runtime.commit import CHANGED, commit

WHO = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]


def git(folder: Path, *arguments: str) -> str:
    asked = ["git", "-C", str(folder), *WHO, *arguments]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_is_that_of_a_clone_and_of_nothing_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erase.runtime.commit._installed", lambda: None)
    own = tmp_path / "clone" / "package"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text("")
    git(own.parent, "init", "-q")
    git(own.parent, "add", ".")
    git(own.parent, "commit", "-qm", "first")
    head = git(own, "rev-parse", "HEAD")
    assert commit(own) == head
    # A package installed below somebody else's repository.
    other = own.parent / "site-packages"
    other.mkdir()
    (other / "__init__.py").write_text("")
    assert commit(other) is None
    assert commit(tmp_path) is None
    (own / "__init__.py").write_text("x = 1\n")
    commit.cache_clear()
    assert commit(own) == head + CHANGED
