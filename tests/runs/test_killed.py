"""A run that was killed, again and again, ends with the bits of one that was not."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runtime.test_processes import launch

RUN = (
    "run --concept imagenette/church --forget-images 6 --retain-images 6 --steps 12 "
    "--batch-size 2 --saliency-batch 2 --sampling-steps 2 --sampling-batch 2 --eval-forget 6 "
    "--eval-retain 9 --eval-neighbours 2 --eval-general 2 --eval-empty 2 --lr 1e-3 "
    "--checkpoint-every 3 --preview 1 --device cpu"
).split()


class Nursery:
    """Starts runs without the seconds that the imports take."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def run(self, argv: list[str], kill_after: float | None = None) -> tuple[int, float]:
        """Exit status (negative: the signal) and seconds; killed where it takes longer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(argv) + "\n")
        self._process.stdin.flush()
        child = int(self._process.stdout.readline())
        began = time.perf_counter()
        timer = None
        if kill_after is not None:
            timer = threading.Timer(kill_after, _kill, (child,))
            timer.start()
        status = os.waitstatus_to_exitcode(int(self._process.stdout.readline()))
        if timer is not None:
            timer.cancel()
        return status, time.perf_counter() - began

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def _kill(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    made = Nursery()
    yield made
    made.close()


@pytest.fixture(scope="module")
def arguments(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    from torchvision import models

    file = tmp_path_factory.mktemp("judge") / "shufflenet.pth"
    torch.manual_seed(0)
    torch.save(models.shufflenet_v2_x0_5().state_dict(), file)
    return [*RUN, "--model", str(tiny_folder), "--judge", f"torchvision:shufflenet_v2_x0_5@{file}"]


def results(run: Path) -> dict[str, Any]:
    """Everything that must not depend on whether the run was disturbed."""
    found: dict[str, Any] = {
        f.relative_to(run).as_posix(): f.read_bytes()
        for pattern in ("images/*/*.png", "eval/*/*/*.png", "model/unet/*", "mask.safetensors")
        for f in sorted(run.glob(pattern))
    }
    report = json.loads((run / "report.json").read_text())
    for key in ("provenance", "training"):
        del report[key]
    found["report"] = report
    rows = [json.loads(line) for line in (run / "train.jsonl").read_text().splitlines()]
    found["log"] = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    return found


def torment(
    nursery: Nursery, arguments: list[str], folder: Path, kills: int, chance: random.Random
) -> None:
    """Kills runs at random moments, resuming each until it ends, until there were enough kills."""
    undisturbed = folder / "undisturbed"
    status, seconds = nursery.run([*arguments, "--out", str(undisturbed)])
    assert status == 0
    expected = results(undisturbed)
    assert len(expected["log"]) == 12
    assert any(name.startswith("model/unet/") for name in expected)
    killed = number = 0
    while killed < kills:
        number += 1
        out = folder / f"run-{number}"
        while True:
            delay = chance.uniform(0, seconds) if killed < kills else None
            status, _ = nursery.run([*arguments, "--out", str(out)], delay)
            if status == 0:
                break
            assert status == -signal.SIGKILL
            killed += 1
        found = results(out)
        differ = [key for key in expected if found.get(key) != expected[key]]
        assert not differ
        assert found.keys() == expected.keys()
        assert not list(out.rglob("*.part"))


def test_a_run_killed_three_times(nursery: Nursery, arguments: list[str], tmp_path: Path) -> None:
    torment(nursery, arguments, tmp_path, 3, random.Random(0))


@pytest.mark.slow
def test_runs_killed_twenty_five_times(
    nursery: Nursery, arguments: list[str], tmp_path: Path
) -> None:
    torment(nursery, arguments, tmp_path, 25, random.Random(1))


@pytest.mark.slow
def test_two_processes_killed(arguments: list[str], tmp_path: Path) -> None:
    began = time.perf_counter()
    done = launch([*arguments, "--out", str(tmp_path / "undisturbed")])
    assert done.returncode == 0, done.stderr[-2000:]
    seconds = time.perf_counter() - began
    expected = results(tmp_path / "undisturbed")
    chance = random.Random(2)
    killed = number = 0
    while killed < 4:
        number += 1
        out = tmp_path / f"run-{number}"
        while True:
            delay = chance.uniform(seconds / 3, seconds) if killed < 4 else None
            done = launch([*arguments, "--out", str(out)], kill_after=delay)
            if done.returncode == 0:
                break
            assert delay is not None, done.stderr[-2000:]
            killed += 1
        assert results(out) == expected
