"""Estimates against what is then measured, on the bundled model."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from erase.diffusion.memory import weights_bytes
from erase.diffusion.model import Diffusion
from erase.runs import estimate
from erase.runs.make import make_run
from erase.runs.preflight import checkpoint_bytes


def test_checkpoints_count_what_they_hold(tiny: Diffusion) -> None:
    """Three of them, each with a value and Adam's two moments of every weight that may move, and as
    much of every weight that relearns beside."""
    weights = sum(p.numel() for p in tiny.denoiser.parameters())
    half = make_run("mini", "church", recipe="salun-sd", overrides={"ratio": 0.5})
    assert checkpoint_bytes(half, tiny, ["train"]) == 3 * 12 * 0.5 * weights
    whole = make_run("mini", "church", recipe="salun-no-mask", overrides={"optimizer": "sgd"})
    assert checkpoint_bytes(whole, tiny, ["train"]) == 3 * 8 * weights
    assert checkpoint_bytes(whole, tiny, ["eval"]) == 0
    beside = make_run("mini", "church", recipe="salun-robust-mini", overrides={"ratio": 0.5})
    assert checkpoint_bytes(beside, tiny, ["train"]) == 3 * 12 * 1.5 * weights
    closed = make_run("mini", "church", recipe="uce")
    assert checkpoint_bytes(closed, tiny, ["train"]) == 0


def test_memory_counts_what_a_method_holds_beside(
    tiny: Diffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relearning five fp32 copies of the scope's weights; a search one model more."""
    monkeypatch.setattr(estimate, "_resident", lambda: 0)

    def held(**more: Any) -> float:
        given = {"relearn_lr": 0.0, "scope": "xattn"} | more
        run = make_run("mini", "church", recipe="salun-robust", overrides=given)
        ready = SimpleNamespace(run=run, diffusion=tiny, wanted=["train"])
        return estimate.memory_bytes(cast(Any, ready))

    weights = sum(p.numel() for p in tiny.scoped("xattn", "denoiser").values())
    assert held(relearn_lr=1e-4) - held() == 5 * 4 * weights
    searched = held(search_steps=10) - held()
    assert searched == weights_bytes(tiny.denoiser) > 4 * weights


SMALL = (
    "--forget-images 40 --retain-images 8 --steps 4 --sampling-steps 2 --eval-forget 40 "
    "--eval-retain 12 --eval-neighbours 4 --eval-general 4 --eval-empty 2 --device cpu"
).split()


@pytest.mark.slow
def test_peak_memory_is_foreseen(tmp_path: Path) -> None:
    """Each in a process of its own, whose memory it is."""
    out = tmp_path / "run"
    argv = [sys.executable, "-m", "erase", "run", "--concept", "church", *SMALL, "--out", str(out)]
    told = subprocess.run([*argv, "--dry-run"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"memory +about ([\d,]+)", told)
    assert found
    subprocess.run(argv, capture_output=True, check=True)
    stages = json.loads((out / "run.json").read_text())["stages"].values()
    measured = max(stage["peak_memory_mb"] for stage in stages)
    assert int(found[1].replace(",", "")) == pytest.approx(measured, rel=0.3)
