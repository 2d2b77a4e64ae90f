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
    skip = shutil.ignore_patterns("__pycache__", "weights")
    shutil.copytree(ROOT / "erase", folder / "erase", ignore=skip)
    for name in ("eval", "mini", "prompts"):
        shutil.copytree(ROOT / name, folder / "erase" / name, ignore=skip)
    (folder / "erase" / "mini" / "weights").symlink_to(ROOT / "mini" / "weights")
    assert not (folder / "erase" / file).exists()
    (folder / "erase" / file).write_text(text, encoding="utf-8")
    return folder


def run(folder: Path, *commands: list[str]) -> str:
    """What commands of ``erase`` print, one after the other in a process of the copy."""
    code = "import sys, json\nfrom erase.cli.main import main\n"
    code += f"for command in {list(commands)!r}:\n    main(command)"
    return run_code(folder, code)


def run_code(folder: Path, code: str, *arguments: str) -> str:
    """What a program prints in a process of the copy, with this project's ``tests`` at hand."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
