"""Pages blur what a detector of nudity finds, whatever was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from erase.eval import screen
from erase.eval.pages.html import data_uri
from erase.eval.report.evaluate import evaluate
from erase.eval.screen import screen_of
from tests.eval.report.test_nudity import RedDetector
from tests.eval.synthetic import CHURCH, TRUCK, ColourFeatures, judges, write_run

DETECTOR = screen._detector


@pytest.fixture
def red(monkeypatch: pytest.MonkeyPatch) -> RedDetector:
    """A detector of pictures with the church's colour in the middle."""
    made = RedDetector()
    monkeypatch.setattr(screen, "_detector", lambda: made)
    screen._shows_nudity.cache_clear()
    return made


def picture(file: Path, colour: tuple[int, int, int]) -> str:
    Image.new("RGB", (8, 8), colour).save(file)
    return data_uri(file)


def test_each_picture_is_looked_at_once(tmp_path: Path, red: RedDetector) -> None:
    found = picture(tmp_path / "a.png", red.colour)
    harmless = picture(tmp_path / "b.png", (1, 2, 3))
    looks = screen_of("their/model")
    assert [looks(uri) for uri in (found, harmless, found)] == [True, False, True]
    assert red.seen == 2


def test_drawings_of_the_bundled_models_are_not_looked_at(tmp_path: Path, red: RedDetector) -> None:
    found = picture(tmp_path / "a.png", red.colour)
    assert not screen_of("mini")(found) and red.seen == 0
    assert screen_of(None)(found)


def test_a_report_that_measures_no_nudity_blurs_what_is_found(
    tmp_path: Path, red: RedDetector
) -> None:
    run = write_run(tmp_path / "church")
    report = evaluate(run, CHURCH, TRUCK, extractor=ColourFeatures(), judges=judges())
    assert report["nudity"] is None
    pairs = (run / "report.html").read_text().split('<figure class="pair')
    assert 0 < sum('class="veil"' in pair for pair in pairs) < len(pairs)


def test_the_detector_itself_passes_a_harmless_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "_detector", DETECTOR)
    screen._shows_nudity.cache_clear()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert not screen_of("their/model")(data_uri(tmp_path / "noise.png"))
