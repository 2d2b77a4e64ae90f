"""Files are whole or absent; a full disk is one sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from erase.formats.tensors import save_tensors
from erase.runtime.errors import UserError, clipped, few, nearest, reason
from erase.runtime.files import (
    atomic,
    cache_folder,
    digest,
    is_plain,
    sha256,
    whole_folder,
    write_json,
    write_text,
)

QUOTA = errno.EDQUOT


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "x.txt"
    write_text(file, "old")
    with pytest.raises(RuntimeError), atomic(file) as part:
        part.write_text("half")
        raise RuntimeError
    assert file.read_text() == "old"
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_or_quota_is_said_and_leaves_nothing(number: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left"), atomic(tmp_path / "x") as part:
        part.write_text("half")
        raise OSError(number, "full")
    with pytest.raises(UserError, match="No space left"), whole_folder(tmp_path / "x", "m") as part:
        (part / "m").write_text("half")
        raise OSError(number, "full")
    assert not list(tmp_path.iterdir())


def test_a_full_quota_in_the_middle_of_tensors(tmp_path: Path, monkeypatch: Any) -> None:
    """The library that writes them says it in words alone."""
    import safetensors.torch

    def full(*_: object) -> None:
        raise safetensors.SafetensorError(f"I/O error: Disk quota exceeded (os error {QUOTA})")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(UserError, match="No space left"), atomic(tmp_path / "x") as part:
        save_tensors(part, {}, {})


def test_two_writers_of_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with whole_folder(folder, "m") as part:
        (part / "m").write_text("first")
        with pytest.raises(UserError, match="Another process"), whole_folder(folder, "m"):
            pass
        assert str(os.getpid()) in part.name
        assert (part / "m").exists()
    assert (folder / "m").read_text() == "first"
    assert [f.name for f in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    left = tmp_path / ".out.4194999.part"
    left.mkdir()
    (tmp_path / ".other.4194999.part").mkdir()
    (tmp_path / ".out.v2.4194999.part").mkdir()
    with whole_folder(tmp_path / "out", "m") as part:
        (part / "m").write_text("x")
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        ".other.4194999.part",
        ".out.v2.4194999.part",
        "out",
    ]


def test_names_within_a_folder() -> None:
    plain = ["a.safetensors", "model-00001-of-00002.bin", ".hidden", "a b"]
    strange = ["", ".", "..", "/a", "../a", "a/b", "a/", "a\\b", "..\\a", "C:a", "C:\\a", "a\0"]
    assert all(map(is_plain, plain))
    assert not any(map(is_plain, [*strange, None, 7, ["a"]]))


def test_a_full_disk_behind_a_librarys_own_error_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="No space left"), atomic(tmp_path / "x"):
        try:
            raise OSError(errno.ENOSPC, "full")
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")
    with pytest.raises(RuntimeError, match="unexpected"), atomic(tmp_path / "x"):
        raise RuntimeError("unexpected")


def test_a_user_without_a_home_has_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("ERASE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", none)
    assert cache_folder().parent == Path(tempfile.gettempdir())


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


def test_what_grows_with_the_input_is_cut_short() -> None:
    assert few([]) == ""
    assert few(["a", "b", "c"]) == "'a', 'b', 'c'"
    assert few(f"n{i}" for i in range(5000)) == "'n0', 'n1', 'n2' and 4997 more"
    assert len(few(["x" * 9000] * 9000)) < 210
    assert clipped("a\n  b") == "a b"
    assert len(clipped("x" * 9000)) == 80
    assert reason(ValueError("first\nsecond")) == "first"
    assert reason(ValueError()) == "ValueError"
    assert reason(FileNotFoundError(2, "No such file", "/a/long/path")) == "No such file"
