"""The package list, the data files and the imports, held against the disk."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]
FOLDERS: dict[str, str] = SETUPTOOLS["package-dir"]
DATA: dict[str, list[str]] = SETUPTOOLS["package-data"]
LIGHT = (
    "erase",
    "erase.cli.main",
    "erase.prompts.concept",
    "erase.recipes.recipe",
    "erase.prompts.prompt_set",
    "erase.prompts",
)
META = ("pyproject.toml", "README.md", "MANIFEST.in", "CHANGELOG.md", "CITATION.cff")
HEAVY = ("torch", "diffusers", "transformers", "torchvision", "matplotlib", "scipy")


def home(package: str) -> Path:
    """The folder of a package, by the map or below its parent's."""
    if package in FOLDERS:
        return ROOT / FOLDERS[package]
    parent, _, name = package.rpartition(".")
    return home(parent) / name


def files(folder: Path) -> Iterator[Path]:
    """What git would keep of a folder."""
    for file in folder.rglob("*"):
        hidden = any(p.startswith(".") for p in file.relative_to(folder).parts)
        if file.is_file() and "__pycache__" not in file.parts and not hidden:
            yield file


def python(code: str, folder: Path) -> str:
    """Runs code as from a user's folder."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_list_is_what_lies_on_the_disk() -> None:
    found = set()
    for package, folder in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *below]))
    assert sorted(found) == SETUPTOOLS["packages"]


def test_every_module_belongs_to_a_package() -> None:
    packages = {home(p) for p in SETUPTOOLS["packages"]}
    modules = [f for folder in FOLDERS.values() for f in files(ROOT / folder) if f.suffix == ".py"]
    assert len(modules) > 20
    assert {f.parent for f in modules} <= packages


def test_every_data_file_is_shipped_and_every_pattern_ships_one() -> None:
    shipped: set[Path] = set()
    for package, patterns in DATA.items():
        for pattern in patterns:
            matched = {f for f in home(package).glob(pattern) if f.is_file()}
            assert matched, f"{package}: {pattern}"
            shipped |= matched
    lying = {f for folder in FOLDERS.values() for f in files(ROOT / folder) if f.suffix != ".py"}
    assert lying - shipped == set()


def test_only_erase_enters_the_global_namespace(tmp_path: Path) -> None:
    assert {p.partition(".")[0] for p in SETUPTOOLS["packages"]} == {"erase"}
    code = (
        "from importlib.util import find_spec; "
        "print([n for n in ('eval', 'prompts', 'mini', 'benchmarks') if find_spec(n)])"
    )
    assert python(code, tmp_path) == "[]"
    packages = ", ".join(SETUPTOOLS["packages"])
    assert python(f"import {packages}; print('ok')", tmp_path) == "ok"


@pytest.mark.parametrize("module", LIGHT)
def test_what_help_needs_imports_nothing_heavy(module: str, tmp_path: Path) -> None:
    code = f"import sys, {module}; print([n for n in {HEAVY!r} if n in sys.modules])"
    assert python(code, tmp_path) == "[]"


def test_the_command_line_waits_for_no_arrays(tmp_path: Path) -> None:
    code = "import sys, erase.cli.main; print('numpy' in sys.modules)"
    assert python(code, tmp_path) == "False"


def test_reading_the_settings_of_every_method_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from erase.recipes.recipe import flags, list_methods; "
        f"[flags(m) for m in list_methods()]; print([n for n in {HEAVY!r} if n in sys.modules])"
    )
    assert python(code, tmp_path) == "[]"


def test_one_version_everywhere() -> None:
    version = PROJECT["project"]["version"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(version)}$", citation, re.MULTILINE)
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version)}\b", changes, re.MULTILINE)


def test_the_notice_names_every_drawing_style() -> None:
    from erase.mini.world import STYLES

    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    assert all(f"@iconify-json/{s.package}" in notice for s in STYLES)
    assert {"LICENSE", "NOTICE"} == set(PROJECT["project"]["license-files"])


def requirements(names: list[str]) -> set[str]:
    """Distributions that these need, with all that those need in turn, in lower case."""
    found: set[str] = set()
    while names:
        name = canonicalize_name(names.pop())
        if name in found:
            continue
        found.add(name)
        with suppress(PackageNotFoundError):  # for another system
            asked = map(Requirement, requires(name) or [])
            here = {"extra": ""}
            names += [r.name for r in asked if r.marker is None or r.marker.evaluate(here)]
    return found


def test_what_runs_imports_nothing_that_only_developers_install() -> None:
    """Every import of every module, those inside functions too."""
    names = [Requirement(text).name for text in PROJECT["project"]["dependencies"]]
    installed = requirements(names)
    # Each is asked for by a flag, and a sentence says how to install it.
    extras = PROJECT["project"]["optional-dependencies"]
    for extra in ("timm", "8bit"):
        installed |= requirements([Requirement(text).name for text in extras[extra]])
    owners = packages_distributions()
    for folder in FOLDERS.values():
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                tops = []
                if isinstance(node, ast.Import):
                    tops = [alias.name.partition(".")[0] for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    tops = [(node.module or "").partition(".")[0]]
                # Who changes a report's schema writes its file anew, with pydantic.
                schemas = {"pydantic"} if file.name == "schema.py" else set()
                for top in set(tops) - sys.stdlib_module_names - {"erase"} - schemas:
                    own = {canonicalize_name(name) for name in owners.get(top, [top])}
                    assert own & installed, f"{file}:{node.lineno} imports {top}"


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_erasing_installs_no_developers_tools(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}

    def steps(goal: str) -> str:
        done = ["make", "--dry-run", goal]
        return subprocess.run(
            done, cwd=tmp_path, env=clean, capture_output=True, text=True, check=True
        ).stdout

    erase, test = steps("erase"), steps("test")
    assert "--editable .\n" in erase and "[dev]" not in erase
    assert test.index("--editable .\n") < test.index("--editable '.[dev]'") < test.index("pytest")
    # How large it is is said before, and how to call it after.
    assert erase.index("GB") < erase.index("pip install") < erase.index(".venv/bin/erase; ")
    # What is installed is not installed again.
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/installed").touch()
    (tmp_path / ".venv/developed").touch()
    assert "pip" not in steps("erase") and "pip" not in steps("test")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], ["mini", "church", "truck", "runs/church"]),
        (["CONCEPT=mini/radio"], ["mini", "mini/radio", "", "runs/mini-radio"]),
        (
            ["CONCEPT=Ada's hat", 'ANCHOR=a "hat"'],
            ["mini", "Ada's hat", 'a "hat"', "runs/Ada's-hat"],
        ),
    ],
)
def test_make_erase_passes_its_variables_on(
    tmp_path: Path, given: list[str], expected: list[str]
) -> None:
    # A stand-in for the installed command shows what it was called with.
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    command = tmp_path / ".venv" / "bin" / "erase"
    command.parent.mkdir(parents=True)
    command.write_text('#!/bin/sh\nfor a in "$@"; do printf "%s\\n" "$a"; done\n')
    command.chmod(0o755)
    (tmp_path / ".venv" / "installed").touch()
    # The variables of the make that may be running the tests stay out of it.
    clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME")}
    done = subprocess.run(
        ["make", "erase", "ARGS=--seed 3", *given],
        cwd=tmp_path, env=clean, capture_output=True, text=True, check=True,
    )  # fmt: skip
    model, concept, anchor, out = expected
    with_anchor = ["--anchor", anchor] if anchor else []
    assert done.stdout.splitlines() == [
        "run", "--model", model, "--concept", concept, *with_anchor, "--out", out, "--seed", "3",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_wheel_carries_everything_and_runs_from_anywhere(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    source, wheels, target = tmp_path / "source", tmp_path / "wheels", tmp_path / "target"
    ignored = shutil.ignore_patterns(".*", "build", "__pycache__", "*.egg-info")
    for name in ("erase", *FOLDERS.values()):
        shutil.copytree(ROOT / name, source / name, ignore=ignored, dirs_exist_ok=True)
    for name in (*META, "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", wheels, source], check=True)
    (wheel,) = wheels.glob("erase_diffusion-*.whl")
    names = {n for n in zipfile.ZipFile(wheel).namelist() if not n.endswith("/")}
    info = f"erase_diffusion-{PROJECT['project']['version']}.dist-info"
    assert {n.partition("/")[0] for n in names} == {"erase", info}
    for package, folder in FOLDERS.items():
        for file in files(ROOT / folder):
            inside = Path(*package.split("."), file.relative_to(ROOT / folder)).as_posix()
            assert inside in names
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= names
    zipfile.ZipFile(wheel).extractall(target)
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r})\n"
        "from erase.prompts import concept, prompt_set\n"
        "from erase.recipes import recipe\n"
        f"assert concept.__file__.startswith({str(target)!r})\n"
        f"assert str(concept.CONCEPTS).startswith({str(target)!r})\n"
        "print(len(concept.list_concepts()), len(prompt_set.list_sets()))\n"
        "print(len(recipe.list_recipes()))"
    )
    counts = python(code, tmp_path)
    here = python(code.replace(str(target), str(ROOT)), tmp_path)
    assert counts == here
    archives = [sys.executable, "-m", "build", "-q", "--sdist", "--no-isolation", "-o", wheels]
    subprocess.run([*archives, source], check=True)
    (archive,) = wheels.glob("erase_diffusion-*.tar.gz")
    with tarfile.open(archive) as tar:
        held = [member.name.partition("/")[2] for member in tar if member.isfile()]
    own = {f"{folder}/{f.relative_to(ROOT / folder).as_posix()}"
           for folder in FOLDERS.values() for f in files(ROOT / folder)}  # fmt: skip
    assert own <= set(held) and {"LICENSE", "NOTICE", "CHANGELOG.md", "CITATION.cff"} <= set(held)
    assert {name.partition("/")[0] for name in held} - {*FOLDERS.values()} == {
        "CHANGELOG.md", "CITATION.cff", "LICENSE", "MANIFEST.in", "NOTICE", "PKG-INFO", "README.md",
        "erase_diffusion.egg-info", "pyproject.toml", "setup.cfg",
    }  # fmt: skip
    # No pictures of runs, and nothing that was left behind.
    ends = {Path(name).suffix for name in (*held, *names)}
    assert not ends & {".png", ".jpg", ".pyc", ".part", ".pt", ".log"}
