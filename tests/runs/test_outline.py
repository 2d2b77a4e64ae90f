"""What is said before a run, and while it goes on."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from erase.runs.estimate import duration, seconds
from erase.runs.make import make_run
from erase.runs.outline import Course, head, long_told, time_told
from erase.runs.rates import Rates
from erase.runs.run import Run

RATES = Rates(passes=0.1, image=0.5, trained=0.2, judged=0.01)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    given = {"forget_images": 2, "retain_images": 3, "sampling_steps": 5, "guidance_scale": 1.0}
    counts = {"eval_forget": 4, "eval_retain": 6, "eval_neighbours": 0, "eval_general": 0}
    more = {"eval_empty": 0, "steps": 10, "batch_size": 2, "saliency_guidance": 0.0}
    return make_run("mini", "church", out=tmp_path / "r", overrides={**given, **counts, **more})


def test_seconds_add_up(run: Run) -> None:
    # Five images of five passes and half a second of decoding.
    assert seconds(run, RATES, ["images"]) == pytest.approx(5 * (5 * 0.1 + 0.5))
    # Base 4 + 6 and 6 again, erased 4 + 6.
    assert seconds(run, RATES, ["base", "erased"]) == pytest.approx(26 * 1.0)
    # The saliency pass sees two images with a gradient, which count three times.
    assert seconds(run, RATES, ["mask"]) == pytest.approx(2 * 3 * 0.2)


@pytest.mark.parametrize(
    ("value", "told"),
    [(4.2, "4 s"), (44, "40 s"), (600, "10 min"), (2 * 3600, "2.0 h"), (72 * 3600, "3 days")],
)
def test_durations(value: float, told: str) -> None:
    assert duration(value) == told


def test_stages_are_counted_with_those_that_are_finished(
    capsys: pytest.CaptureFixture[str],
) -> None:
    course = Course(("images", "mask", "train", "base", "erased", "eval"), ("mask", "eval"))
    course.reach("mask")
    course.reach("eval")
    assert capsys.readouterr().err.splitlines() == [
        "stage 1 of 6: images, already finished",
        "stage 2 of 6: base images, already finished",
        "stage 3 of 6: mask",
        "stage 4 of 6: train, already finished",
        "stage 5 of 6: erased images, already finished",
        "stage 6 of 6: eval",
    ]


def test_the_head_names_what_is_done(run: Run) -> None:
    text = "\n".join(head(run))
    for word in ("mini/church -> mini/truck", "salun-mini", str(run.out)):
        assert word in text
    free = make_run("mini", "an old [house]", "nosuch", out=run.out)
    assert "'an old house' (a prompt) -> 'nosuch' (a prompt)" in "\n".join(head(free))
    empty = make_run("mini", "church", "", out=run.out)
    assert "mini/church -> the empty prompt" in "\n".join(head(empty))
    none = make_run("mini", "an old [house]", recipe="esd-x-mini", out=run.out)
    assert "concept   'an old house' (a prompt)\n" in "\n".join(head(none))


@pytest.mark.usefixtures("first_generation")
def test_over_an_hour_is_said_with_what_would_be_shorter(run: Run, tmp_path: Path) -> None:
    assert long_told([run], RATES, ["images"]) is None
    slow = Rates(passes=1000.0, image=0.0, trained=0.0, judged=0.0)
    assert "over an hour: about 6.9 h." in str(long_told([run], slow, ["images"]))
    brought = make_run("own/model", "imagenette/church", out=tmp_path / "s")
    told = str(long_told([brought], slow, ["base", "erased"]))
    assert "is salun-sd14-imagenette, as published" in told and "--recipe salun-sd would" in told


def test_what_was_tried_out_beside_other_work_is_no_estimate(run: Run) -> None:
    slow = Rates(passes=1000.0, image=0.0, trained=0.0, judged=0.0, busy=True)
    ready: Any = SimpleNamespace(run=run)
    assert "busy" in time_told(ready, slow, ["images"])
    assert long_told([run], slow, ["images"]) is None
