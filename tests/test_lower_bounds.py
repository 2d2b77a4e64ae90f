"""The lower bounds of ``pyproject.toml`` are real: the quick tests pass with exactly these."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXTRAS = ("timm", "8bit")
"""What a user may install; the tools of ``dev`` are taken as they are."""
ENVIRONMENT = "ERASE_LOWER_BOUNDS"
"""Names a folder in which the environment of 8 GB is kept between two runs."""


def bounds() -> list[str]:
    """Every package of the user's at its lowest version, as pip's constraints."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = [*project["dependencies"]]
    named += [package for extra in EXTRAS for package in project["optional-dependencies"][extra]]
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", package) for package in named]
    assert all(found), "each dependency has a lower bound, and nothing else"
    return [f"{match[1]}=={match[2]}" for match in found if match]


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_quick_tests_pass_with_the_lowest_versions(tmp_path: Path) -> None:
    place = Path(os.environ.get(ENVIRONMENT) or tmp_path / "lowest")
    if shutil.disk_usage(tmp_path).free < 15e9:
        pytest.skip("an environment of its own takes 8 GB, and a disk has less than 15 GB left")
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join(bounds()) + "\n")
    made = run(sys.executable, "-m", "venv", place)
    assert made.returncode == 0, made.stderr
    python = place / "bin" / "python"
    pip = (python, "-m", "pip")
    asked = run(*pip, "download", "--no-deps", "--dest", tmp_path / "asked", "tqdm")
    if asked.returncode:
        pytest.skip(f"no package index can be reached: {asked.stderr.strip().splitlines()[-1]}")
    extras = ",".join((*EXTRAS, "dev"))
    put = run(*pip, "install", "--constraint", constraints, "--editable", f".[{extras}]")
    assert put.returncode == 0, put.stderr[-3000:]
    done = run(
        *(python, "-m", "pytest", "-q", "-n", "auto", "--maxprocesses", "4", "-m", "not slow"),
        OMP_NUM_THREADS="1",
    )
    assert done.returncode == 0, done.stdout[-6000:]


def test_torchvision_belongs_to_torch() -> None:
    # Minor versions go together: torch 2.n with torchvision 0.(n + 15).
    lowest = dict(bound.split("==") for bound in bounds())
    torch, torchvision = lowest["torch"].split("."), lowest["torchvision"].split(".")
    assert int(torchvision[1]) == int(torch[1]) + 15
