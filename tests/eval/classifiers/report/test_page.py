"""The page: what stands on it, and how it fits a phone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from erase.eval.classifiers import plots
from erase.eval.classifiers.report.evaluate import write
from erase.eval.classifiers.report.page import render
from tests.eval.classifiers.report.test_evaluate import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)


@pytest.mark.parametrize("kind", ["random", "class"])
def test_it_has_its_sections_and_needs_nothing_else(kind: str) -> None:
    html = render(report(kind))
    ids = re.findall(r'<section id="(\w+)"', html)
    assert ("classes" in ids) == (kind == "class")
    assert {"distance", "figures", "confidence", "relearning", "provenance"} <= set(ids)
    assert "http" not in html.replace("http://www.w3.org/", "")
    every = re.findall(r'\bid="([^"]+)"', html)
    assert len(every) == len(set(every))
    for sentence in report(kind)["verdict"]:
        assert re.sub(r"<[^>]+>", "", html).count(sentence.split("(")[0].strip()) >= 1


def test_without_retrained_models_it_says_so() -> None:
    html = render(report("random", 0))
    assert "no retrained model" in html and "Nothing concluded" not in html
    assert "nothing concluded" in html


def test_an_interval_of_a_size() -> None:
    assert plots.folded(-0.3, -0.1) == (0.1, 0.3)
    assert plots.folded(-0.3, 0.1) == (0.0, 0.3)
    assert plots.folded(0.1, 0.3) == (0.1, 0.3)


def test_bars_have_the_length_of_their_values() -> None:
    def value(x: float | None) -> dict[str, float | None]:
        return {"value": x, "low": None, "high": None}

    series = {"base": [value(-0.4), value(None)], "unlearned": [value(0.2), value(0.1)]}
    drawn = plots.bars(["a", "b"], series, [value(0.05), value(None)], name="t", unit="points")
    corners = re.findall(r'd="M ([\d.]+) [\d.]+ \nL ([\d.]+) [^"]+z\n" clip-path', drawn)
    widths = [float(right) - float(left) for left, right in corners]
    assert len(widths) == 4
    assert [w / widths[0] for w in widths] == pytest.approx([1, 0, 0.5, 0.25], abs=1e-4)
    assert "floor" in drawn


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_it_fits_a_phone_without_a_word_in_the_console(tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    write(report("class"), tmp_path)
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 900})
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((tmp_path / "report.html").as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert said == [] and wide == 390
