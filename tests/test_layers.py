"""The floors of the house are held: an import that points upwards fails the check."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dropped_in import ROOT, copy_with


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("", False),
        ("from erase.cli import main\n", True),
        ("def late():\n    from erase.runs import execute\n", True),
        (
            "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n"
            "    from erase.eval.figure import Figure\n",
            True,
        ),
        ("from erase.mini import world\n", True),
    ],
)
def test_an_import_upwards_is_found(text: str, broken: bool, tmp_path: Path) -> None:
    linter = shutil.which("lint-imports") or shutil.which("lint-imports", path=ROOT / ".venv/bin")
    assert linter, "make test installs import-linter"
    folder = copy_with(tmp_path, "runtime/planted.py", text)
    done = subprocess.run(
        [linter, str(ROOT / "pyproject.toml"), "--no-cache"],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert bool(done.returncode) == broken, done.stdout
    assert ("erase.runtime.planted" in done.stdout) == broken
