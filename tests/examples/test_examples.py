"""The examples run: scripts as they stand, a method and a metric once they lie in their folder."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from erase.cli.main import main
from tests.docs.pages import ROOT
from tests.dropped_in import copy_with, run

EXAMPLES = ROOT / "examples"
QUICK = "--sampling-steps 1 --eval-forget 2 --eval-retain 4 --device cpu"
REST = "--eval-neighbours 0 --eval-general 0 --eval-empty 0"


def test_the_method_takes_a_direction_away() -> None:
    shifted = runpy.run_path(str(EXAMPLES / "mean_shift.py"))["shifted"]
    w0 = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    # d = (1, 0): the first column goes by its share, the second stays.
    found = shifted(w0, torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0]), 0.5)
    assert found.tolist() == [[0.5, 2.0], [1.5, 4.0]]


def test_the_metric_counts_each_pair_of_neighbours_once() -> None:
    contrast = runpy.run_path(str(EXAMPLES / "contrast.py"))["contrast"]
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0] = 100
    # Two of the four pairs differ, by 100.
    assert contrast(image) == 50


@pytest.mark.slow
def test_a_style_is_erased(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = runpy.run_path(str(EXAMPLES / "erase_a_style.py"))
    small = {"sampling_steps": 1, "eval_forget": 2, "eval_retain": 2, "eval_neighbours": 0}
    small |= {"eval_general": 0, "eval_empty": 0}
    script["main"](out="out", recipe="uce", anyway=True, **small)
    assert ": UA " in capsys.readouterr().out
    assert Image.open("out/before-above-after.png").size == (4 * 66 + 2, 2 * 66 + 2)


@pytest.mark.slow
def test_other_peoples_images_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main([*"run --model mini --concept church --recipe uce --out run".split(), *QUICK.split()])
    script = runpy.run_path(str(EXAMPLES / "evaluate_images.py"))
    found = script["main"]("mini/church", "run/eval/base", "run/eval/erased")
    told = json.loads(Path("run/report.json").read_text())["summary"]
    assert list(found.values()) == [told[side]["ua"]["value"] for side in ("base", "erased")]


@pytest.mark.slow
def test_the_method_and_the_metric_are_found_where_they_are_copied(tmp_path: Path) -> None:
    folder = copy_with(tmp_path, "methods/mean_shift.py", (EXAMPLES / "mean_shift.py").read_text())
    metric = folder / "erase/eval/metrics/contrast.py"
    metric.write_text((EXAMPLES / "contrast.py").read_text())
    command = f"run --model mini --concept church --method mean_shift --out out {QUICK} {REST}"
    said = run(folder, ["list", "methods"], [*command.split(), "--shift", "1.5"])
    assert "mean_shift" in said
    report = json.loads((folder / "out/report.json").read_text())
    assert report["provenance"]["recipe"]["shift"] == 1.5
    figures = [f for f in report["figures"] if f["key"] == "contrast"]
    assert [f["side"] for f in figures] == ["base", "erased"]
    assert all(f["n"] == 4 and f["value"] > 0 for f in figures)
