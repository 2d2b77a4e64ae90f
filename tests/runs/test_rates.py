"""What a run took is kept for the estimates of those to come."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from erase.runs.make import make_run
from erase.runs.preflight import Ready, prepare
from erase.runs.rates import machine, rates, remember
from erase.runs.run import Compute


@pytest.fixture
def ready(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ready:
    monkeypatch.setenv("ERASE_CACHE", str(tmp_path / "cache"))
    given = {"sampling_steps": 5, "guidance_scale": 1.0, "steps": 40, "batch_size": 1}
    run = make_run(str(tiny_folder), "a church", "a tree", out=tmp_path / "r", overrides=given)
    return prepare([replace(run, compute=Compute("cpu"))], ["images"])


def test_a_first_run_is_estimated_by_trial_and_the_next_by_the_last(ready: Ready) -> None:
    tried = rates(ready)
    assert tried.passes > 0 and tried.trained > 0 and "measurement" in tried.source
    stages = {s: {"seconds": 100.0} for s in ("base", "erased", "mask", "train", "eval")}
    remember(machine(ready), ready.run, stages, list(stages))
    seen = rates(ready)
    assert seen.source == "as in the last such run on this machine"
    # 200 seconds for the base's images, the second base set and the erased model's, five passes
    # each.
    counts = ready.run.recipe
    side = counts.eval_forget + counts.eval_retain + counts.eval_general + counts.eval_empty
    assert seen.passes == pytest.approx(200 / (2 * side + counts.eval_retain) / 5, rel=0.2)


def test_a_small_run_teaches_nothing(ready: Ready, tmp_path: Path) -> None:
    remember(machine(ready), ready.run, {"mask": {"seconds": 1.0}}, ["mask"])
    assert not (tmp_path / "cache").exists()


def test_a_trial_beside_other_work_is_told_as_one(
    ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not rates(ready).busy
    monkeypatch.setattr("os.getloadavg", lambda: (1000.0, 0.0, 0.0))
    assert rates(ready).busy
    stages = {s: {"seconds": 100.0} for s in ("base", "erased", "mask", "train", "eval")}
    remember(machine(ready), ready.run, stages, list(stages))
    assert not rates(ready).busy  # nothing is tried out
