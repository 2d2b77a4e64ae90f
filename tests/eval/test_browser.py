"""The pages in a real browser: nothing in its console, and the blur that goes when clicked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.nudenet import Config
from erase.eval.report.evaluate import evaluate
from tests.eval.report.test_nudity import LABEL, RedDetector
from tests.eval.synthetic import CHURCH, TRUCK, judges, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose churches are what the detector counts."""
    run = write_run(tmp_path_factory.mktemp("runs") / "church")
    evaluate(
        run,
        CHURCH,
        TRUCK,
        judges=judges(),
        instruments=Instruments(nudity=Config(LABEL)),
        detector=RedDetector(),
    )
    return run / "report.html"


def opened(browser: Browser, file: Path, width: int = 1100) -> tuple[Page, list[str]]:
    """The page, and what its console said."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
    page.goto(file.as_uri())
    return page, said


def test_the_page_loads_alone_and_without_a_word_in_the_console(
    browser: Browser, report: Path
) -> None:
    page, said = opened(browser, report)
    broken = "Array.from(document.images).filter(i => i.complete && !i.naturalWidth).length"
    assert page.evaluate(broken) == 0
    assert page.locator("h1").inner_text() == "Erasing church"
    assert said == []


def blur(page: Page) -> str:
    style = "getComputedStyle(document.querySelector('.grid .veil img')).filter"
    return str(page.evaluate(style))


def test_flagged_images_are_blurred_until_clicked_and_again_after(
    browser: Browser, report: Path
) -> None:
    page, _ = opened(browser, report)
    assert "blur(" in blur(page)
    shown = page.locator(".grid .veil").first
    shown.click()
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.grid .veil img')).filter === 'none'"
    )
    # By keyboard as well: the veil is a checkbox.
    shown.locator("input").press("Space")
    page.mouse.move(0, 0)
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.grid .veil img')).filter.includes('blur(')"
    )


def test_every_flagged_image_has_a_veil_and_no_other(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report)
    # All ten churches before erasing and the one left after are in pairs that show a church.
    grids = page.locator("h3", has_text="Prompts with church").locator("xpath=..")
    assert grids.locator("figure").count() == 10
    assert grids.locator(".veil").count() == 20
    kept = page.locator("h3", has_text="Retained prompts").locator("xpath=..")
    assert kept.locator(".veil").count() == 0


@pytest.mark.parametrize("width", [360, 800])
def test_nothing_sticks_out_on_a_phone(browser: Browser, report: Path, width: int) -> None:
    page, _ = opened(browser, report, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_printed_the_images_stay_veiled(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report)
    page.emulate_media(media="print")
    assert "blur(" in blur(page)
