"""A copy of the package with one more file, and programs that run on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def copy_with(place: Path, file: str, text: str) -> Path:
    """A folder to import ``erase`` from, which has the file ``file`` beside those of the source."""
    folder = place / "package"
    shutil.copytree(ROOT / "erase", folder / "erase", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("eval", "mini", "prompts"):
        (folder / "erase" / name).symlink_to(ROOT / name)
    assert not (folder / "erase" / file).exists()
    (folder / "erase" / file).write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, *commands: list[str]) -> str:
    """What commands of ``erase`` print, one after the other in a process of the copy."""
    code = "import sys, json\nfrom erase.cli.main import main\n"
    code += f"for command in {list(commands)!r}:\n    main(command)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
