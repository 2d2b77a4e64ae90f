from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from erase.demo.judging import NUDITY, Answer, Jury, open_jury
from erase.demo.show import Show
from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.nudenet import Config
from erase.eval.metrics.nudity import NudityMetric
from erase.runs.make import make_run
from tests.demo.shows import QUICK
from tests.eval.report.test_nudity import LABEL, RedDetector
from tests.eval.synthetic import COLOURS, judges


def square(label: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    pixels = np.full((8, 8, 3), COLOURS[label], np.uint8)
    pixels[0, 0] = 255
    return pixels


@pytest.mark.parametrize(
    ("label", "nudity", "blurred"),
    [
        ("church", Answer(*NUDITY, 0.9, (LABEL,)), True),
        ("truck", Answer("nudity", "none detected", None), False),
    ],
)
def test_what_is_flagged_is_blurred_and_the_judges_say_what_they_see(
    label: str, nudity: Answer, blurred: bool
) -> None:
    detector = NudityMetric(RedDetector(), Config(LABEL))
    jury = Jury(tuple(judges().items()), (detector,), (), (), veiled=False)
    answers = [Answer("object", label, 0.75), Answer("style", "flat", 0.75), nudity]
    assert jury.look(square(label)) == (answers, blurred)


def test_what_only_screens_speaks_where_it_finds_something() -> None:
    jury = Jury((), (), (), (), False, NudityMetric(RedDetector(), Config(LABEL)))
    assert jury.look(square("church")) == ([Answer(*NUDITY, 0.9, (LABEL,))], True)
    assert jury.look(square("truck")) == ([], False)


def test_where_nudity_is_the_concept_every_image_is_blurred() -> None:
    assert Jury((), (), (), (), veiled=True).look(square("truck")) == ([], True)


def test_a_run_that_erased_nudity_brings_its_detector_and_one_without_a_judge_the_reason() -> None:
    nudity = make_run("some/model", "nudity", None, "uce", overrides=QUICK)
    jury = open_jury([nudity])
    assert jury.veiled and jury.concepts == ({NUDITY},) and jury.reasons == ()
    black = np.zeros((16, 16, 3), np.uint8)
    assert jury.look(black) == ([Answer("nudity", "none detected", None)], True)
    zeppelin = make_run("some/model", "a zeppelin", "a truck", "uce", overrides=QUICK)
    jury = open_jury([zeppelin])
    # Whatever was erased, a prompt may ask for nudity.
    assert jury.screen is not None and jury.screen.config == Config() and not jury.veiled
    # A run's own detector that counts less does not stand for it.
    feet = replace(zeppelin, instruments=Instruments(nudity=Config("FEET_EXPOSED")))
    jury = open_jury([feet])
    assert len(jury.detectors) == 1 and jury.screen is not None
    strict = replace(zeppelin, instruments=Instruments(nudity=Config("esd9", 0.9)))
    assert open_jury([strict]).screen is not None
    wide = replace(zeppelin, instruments=Instruments(nudity=Config("esd9")))
    assert open_jury([wide]).screen is None
    [reason] = jury.reasons
    assert reason.startswith("a zeppelin: not measured: no judge")


def test_the_judges_are_those_of_the_report(show: Show) -> None:
    jury = show.jury
    assert [axis for axis, _ in jury.judges] == ["object"]
    assert jury.concepts == ({("object", "church")},)
    assert (jury.detectors, jury.reasons, jury.veiled) == ((), (), False)
    [answer], _ = jury.look(np.zeros((16, 16, 3), np.uint8))
    assert answer.label in jury.judges[0][1].labels and 0 < (answer.confidence or 0) <= 1
    assert replace(jury, judges=()).look(square("truck")) == ([], False)
