"""Files are whole or absent; a full disk is one sentence."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest

from erase.errors import UserError, nearest
from erase.files import atomic, digest, sha256, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "x.txt"
    write_text(file, "old")
    with pytest.raises(RuntimeError), atomic(file) as part:
        part.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left"), atomic(tmp_path / "x") as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_other_failures_are_not_hidden(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), atomic(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "no")


def test_hashes(tmp_path: Path) -> None:
    write_json(tmp_path / "x", {"a": "é"})
    assert sha256(tmp_path / "x") == hashlib.sha256((tmp_path / "x").read_bytes()).hexdigest()
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_nearest_name() -> None:
    assert nearest("churhc", ["church", "truck"]) == " Did you mean 'church'?"
    assert nearest("zzz", ["church"]) == ""
