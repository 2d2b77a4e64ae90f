"""Finished cells in an archive: what went in comes out, without images and machines' places."""

import json
import tarfile
from pathlib import Path

import pytest

from benchmarks.pack import CELLS, READ, pack


def _run(root: Path, judge: str) -> Path:
    cell = root / "mine" / "cells" / "salun" / "church-0"
    (cell / "attack").mkdir(parents=True)
    (cell / "image.png").write_bytes(b"x")
    (root / "mine" / "matrix.json").write_text(json.dumps({"seeds": 1}))
    (cell / "cell.json").write_text(json.dumps({"ua": 0.1 + 0.2, "judge": judge}))
    (cell / "attack" / "attack.json").write_text(json.dumps({"verdict": "hidden"}))
    return root / "mine"


def test_figures_come_out_as_they_went_in(tmp_path: Path) -> None:
    repository = CELLS.resolve().parents[1]
    run = _run(tmp_path, f"{repository}/mini/weights/judge.safetensors")
    assert pack(run, tmp_path / "one.tar.gz") == 3
    pack(run, tmp_path / "two.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    files = {f.relative_to(tmp_path / "out").as_posix(): f for f in (tmp_path / "out").rglob("*.*")}
    cell = "mine/cells/salun/church-0"
    assert set(files) == {"mine/matrix.json", f"{cell}/cell.json", f"{cell}/attack/attack.json"}
    found = json.loads(files[f"{cell}/cell.json"].read_text())
    assert found == {"ua": 0.1 + 0.2, "judge": "mini/weights/judge.safetensors"}


def test_a_place_on_this_machine_is_refused(tmp_path: Path) -> None:
    run = _run(tmp_path, str(tmp_path / "judge.safetensors"))
    with pytest.raises(SystemExit, match="which is a place on this machine"):
        pack(run, tmp_path / "one.tar.gz")
    assert not (tmp_path / "one.tar.gz").exists()
    (tmp_path / "none").mkdir()
    with pytest.raises(SystemExit, match="holds no matrix.json"):
        pack(tmp_path / "none", tmp_path / "one.tar.gz")


@pytest.mark.parametrize("file", sorted(CELLS.glob("*.tar.gz")), ids=lambda f: f.name)
def test_committed_cells_lie_under_their_name_and_are_figures(file: Path) -> None:
    with tarfile.open(file) as archive:
        names = archive.getnames()
    assert names
    assert all(n.startswith(file.name.removesuffix("tar.gz")[:-1] + "/") for n in names)
    assert {n.rsplit("/")[-1] for n in names} <= set(READ)
