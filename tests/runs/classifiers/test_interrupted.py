"""Runs of classifiers in two processes, and killed: weights and figures of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from erase.formats.tensors import read_tensors
from erase.unlearn.mask import Mask
from tests.runtime.test_processes import alone, launch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of seconds on eight-pixel images."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 4
    x = (rng.integers(0, 99, (200, 8, 8)) + 30 * y[:, None, None]).astype(np.uint8)
    file = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(file, x_train=x, y_train=y, x_test=x[:60], y_test=y[:60])
    data = ["--data", f"npz@{file}", "--forget", "random:0.2", "--device", "cpu"]
    train = ["--train-epochs", "8", "--train-batch", "16", "--batch-size", "16", "--retrains", "2"]
    return ["classifier", "run", *data, *train, "--epochs", "6"]


@pytest.fixture(scope="module")
def whole(asked: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    done = alone([*asked, "--out", str(out)])
    assert done.returncode == 0, done.stderr
    return out


WEIGHTS = ("base/model.safetensors", "model.safetensors", "retrain/1/model.safetensors")


def test_two_processes_are_one(asked: list[str], tmp_path: Path) -> None:
    # Longer, and training would make more of sums that are rounded in another order.
    short = [*asked, "--train-epochs", "1", "--epochs", "1"]
    places = (tmp_path / "one", tmp_path / "two")
    for place, start in zip(places, (alone, launch), strict=True):
        done = start([*short, "--out", str(place)])
        assert done.returncode == 0, done.stderr
    for name in WEIGHTS:
        one, two = (read_tensors(place / name) for place in places)
        for key, value in one.items():
            torch.testing.assert_close(value, two[key], rtol=1e-5, atol=1e-6)
    masks = [Mask.load(place / "mask.safetensors") for place in places]
    differ = sum(int((masks[0].dense(n) != masks[1].dense(n)).sum()) for n in masks[0].bits)
    assert differ <= max(2, masks[0].size // 10**4)
    figures = [json.loads((place / "report.json").read_text()) for place in places]
    for side in ("base", "unlearned", "retrain"):
        one, two = (f["summary"][side]["ua"]["value"] for f in figures)
        assert abs(one - two) <= 0.04


@pytest.mark.parametrize("seconds", [0.5, 1.5, 3.0])
def test_a_killed_run_ends_with_the_same_bits(
    seconds: float, asked: list[str], whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "erase", *asked, "--out", str(out)]
    with subprocess.Popen(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL
    ) as process:
        while process.poll() is None and not (out / "split.json").exists():
            time.sleep(0.02)
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    assert process.returncode in (0, -signal.SIGKILL)
    done = alone([*asked, "--out", str(out)])
    assert done.returncode == 0, done.stderr
    for name in (*WEIGHTS, "mask.safetensors"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name
