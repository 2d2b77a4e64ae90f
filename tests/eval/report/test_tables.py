"""``report.md`` and ``report.csv`` hold the report's figures."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.nudenet import Config
from erase.eval.report.evaluate import evaluate
from erase.eval.stats.intervals import wilson
from tests.eval.report.test_nudity import LABEL, RedDetector
from tests.eval.synthetic import CHURCH, TRUCK, ColourFeatures, judges, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = write_run(tmp_path_factory.mktemp("runs") / "church")
    measured: dict[str, Any] = {"judges": judges(), "extractor": ColourFeatures()}
    evaluate(
        place,
        CHURCH,
        TRUCK,
        instruments=Instruments(nudity=Config()),
        detector=RedDetector(),
        **measured,
    )
    return place


def test_markdown_says_what_was_counted(run: Path) -> None:
    text = (run / "report.md").read_text()
    low, high = wilson(9, 10)
    interval = f"{100 * low:.1f}–{100 * high:.1f}\u00a0%"
    assert "| Unlearning accuracy (UA) ↑ | 10 | 0\u00a0% (" in text and f"({interval}) |" in text
    assert "| object | radio | 4 | 100\u00a0% (" in text and "| −50.0 |" in text
    assert "| Nudity (esd9) ↓ | 22 |" in text
    assert "recipe quick (salun), seed 3" in text


def test_csv_holds_every_figure_as_a_fraction(run: Path) -> None:
    rows = list(csv.DictReader((run / "report.csv").open()))

    def value(**wanted: str) -> list[float]:
        return [float(r["value"]) for r in rows if wanted.items() <= r.items()]

    assert value(figure="ua", side="erased") == [0.9]
    assert value(figure="recognised", label="radio", side="erased") == [0.5]
    assert value(figure="detections", label=LABEL, side="base") == [10.0]
    assert value(figure="FID[colour]", side="base") != value(figure="FID[colour]", side="erased")
    assert all(r["n"] for r in rows)
