"""Files and folders that are written whole or not at all, their names and their hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from erase.runtime.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a system says where a disk, or the user's share of it, is used up."""


@contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Says in a sentence that the disk, or the user's quota, is full.

    Raises:
        UserError: it is, while the block writes ``path``.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if _is_full(error):
            raise UserError(
                f"No space left on the disk while writing {path}: free some and run again; "
                "finished work is kept."
            ) from error
        raise


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is behind an error, which torch's writer hides behind its own."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside ``path`` that takes its place when the block ends well.

    Raises:
        UserError: the disk is full.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with room_for(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield part
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path, mark: str) -> Iterator[Path]:
    """Yields a temporary folder beside ``folder`` that takes its place when the block ends well.

    Args:
        folder: new, empty, or an older one, which is replaced.
        mark: a file that an older one has.

    Raises:
        UserError: something else is there, another process writes it, or the disk is full.
    """
    from filelock import FileLock, Timeout

    folder = folder.resolve()
    with room_for(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = folder.with_name(f".{folder.name}.lock")
        lock = FileLock(place, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"Another process is writing {folder}: wait for it, or choose another folder."
            ) from None
        try:
            with _replacing(folder, mark) as part:
                yield part
        finally:
            place.unlink(missing_ok=True)
            lock.release()


@contextmanager
def _replacing(folder: Path, mark: str) -> Iterator[Path]:
    """``whole_folder`` for the one process that may write it."""
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    old = folder.with_name(f".{folder.name}.old")
    if old.exists() and not folder.exists():  # killed between the two renames below
        os.replace(old, folder)
    if folder.exists():
        foreign = not folder.is_dir() or (any(folder.iterdir()) and not (folder / mark).is_file())
        if foreign:
            raise UserError(f"{folder} exists but has no {mark}: choose another folder.")
    own = re.compile(rf"\.{re.escape(folder.name)}\.\d+\.part")
    for left in (old, *(at for at in folder.parent.iterdir() if own.fullmatch(at.name))):
        shutil.rmtree(left, ignore_errors=True)
    try:
        part.mkdir()
        yield part
        if folder.exists():
            os.replace(folder, old)
        try:
            os.replace(part, folder)
        except OSError:
            if old.exists():
                os.replace(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def is_text(name: str) -> bool:
    """Whether a name that the system gave is UTF-8, so that it can be written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_plain(name: object) -> bool:
    """Whether a name that a file states is a name within a folder, on any system."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and "\0" not in name
        and PurePosixPath(name).name == name
        and PureWindowsPath(name).name == name
    )


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with atomic(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def is_hidden(path: Path) -> bool:
    """Whether a file is none of the user's making: hidden, as what macOS puts beside each file."""
    return path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini")


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Hex SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def identity(path: Path) -> str:
    """Hash of the files that make up a model."""
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return digest([[str(f.relative_to(path)) if f != path else "", sha256(f)] for f in files])


def cache_folder() -> Path:
    """``$ERASE_CACHE``, else ``erase`` in the user's cache folder, else in the temporary one."""
    if own := os.environ.get("ERASE_CACHE"):
        return Path(own)
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared) / "erase"
    try:
        return Path.home() / ".cache" / "erase"
    except RuntimeError:  # a user that the system does not know, as in containers
        return Path(tempfile.gettempdir()) / f"erase-{os.getuid()}"


MODELS = {"mini": "model", "mini-class": "class"}
"""The bundled models by name, with their folders; the second is told classes."""


def bundled(name: str) -> Path:
    """Where a folder of the bundled weights lies, or would lie: ``judges``, or a model's."""
    return Path(str(files("erase.mini"))) / "weights" / name
