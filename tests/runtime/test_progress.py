from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from erase.runtime import progress as bars

# Half a second of work in five parts, then work that is done at once.
WORK = """
import time
from erase.runtime import progress as bars
bars.DELAY, bars.SPARSE = 0.05, 0.0
for _ in bars.each(range(5), bars.progress("images of mini", 5, "image")): time.sleep(0.1)
for _ in bars.each(range(5), bars.progress("quick", 5, "image")): pass
"""


def test_a_log_gets_lines_and_only_of_what_takes_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bars, "DELAY", 0.0)
    monkeypatch.setattr(bars, "SPARSE", 0.0)
    assert list(bars.each("abc", bars.progress("judge mini", 3, "image"))) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert [line.partition(",")[0] for line in lines] == [
        f"judge mini: {n}/3 images" for n in range(4)
    ]
    assert all(line.endswith(" to go\n") and "\r" not in line for line in lines)
    monkeypatch.setattr(bars, "DELAY", 60.0)
    assert list(bars.each("abc", bars.progress("judge mini", 3, "image"))) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_what_was_done_before_is_counted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bars, "DELAY", 0.0)
    monkeypatch.setattr(bars, "SPARSE", 0.0)
    list(bars.each(range(7, 9), bars.progress("train", 9, "step", done=7)))
    assert "train: 9/9 steps" in capsys.readouterr().err
    assert bars.progress("train", 9, "step", done=9).disable


def test_a_terminal_without_a_size_shows_bars_too(tmp_path: Path) -> None:
    leader, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    subprocess.run([sys.executable, "-c", WORK], cwd=tmp_path, stderr=terminal, check=True)
    os.close(terminal)
    shown = os.read(leader, 1 << 16).decode()
    os.close(leader)
    assert "5/5" in shown and "images of mini: 100%|" in shown
    assert "quick" not in shown


def test_work_whose_first_part_takes_long_shows_before_it_is_done(tmp_path: Path) -> None:
    leader, terminal = pty.openpty()
    code = (
        "import time; from erase.runtime import progress as bars; bars.DELAY = 0.1\n"
        "bar = bars.progress('train', 2, 'step'); time.sleep(0.5)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, stderr=terminal, check=True)
    os.close(terminal)
    assert "train:   0%" in os.read(leader, 1 << 16).decode()
    os.close(leader)
