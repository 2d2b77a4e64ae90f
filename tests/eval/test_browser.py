"""The pages in a real browser: nothing in its console, and the blur that goes when clicked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.nudenet import Config
from erase.eval.report.evaluate import evaluate
from tests.browser import browser, needs_browser, opened
from tests.eval.report.test_nudity import LABEL, RedDetector
from tests.eval.synthetic import CHURCH, TRUCK, judges, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]
pytestmark = needs_browser


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


def test_the_page_loads_alone_and_without_a_word_in_the_console(
    browser: Browser, report: Path
) -> None:
    page, said = opened(browser, report.as_uri())
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
    page, _ = opened(browser, report.as_uri())
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
    page, _ = opened(browser, report.as_uri())
    # All ten churches before erasing and the one left after are in pairs that show a church.
    grids = page.locator("h3", has_text="Prompts with church").locator("xpath=..")
    assert grids.locator("figure").count() == 10
    assert grids.locator(".veil").count() == 20
    kept = page.locator("h3", has_text="Retained prompts").locator("xpath=..")
    assert kept.locator(".veil").count() == 0


@pytest.mark.parametrize("width", [360, 800])
def test_nothing_sticks_out_on_a_phone(browser: Browser, report: Path, width: int) -> None:
    page, _ = opened(browser, report.as_uri(), width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_printed_the_images_stay_veiled(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report.as_uri())
    page.emulate_media(media="print")
    assert "blur(" in blur(page)


def shown(page: Page) -> list[str]:
    """The two images of the slider, as their descriptions, and what is to be seen of the second."""
    images = page.locator(".slider .shots img")
    assert images.count() == 2
    cut = images.nth(1).evaluate("image => getComputedStyle(image).clipPath")
    return [str(images.nth(i).get_attribute("alt")) for i in (0, 1)] + [str(cut)]


@pytest.mark.slow
def test_the_slider_moves_by_keyboard_pointer_and_touch(browser: Browser, report: Path) -> None:
    page, said = opened(browser, report.as_uri(), touch=True)
    first = "a flat church <0> (seed 100)"
    half = [f"before: {first}", f"after: {first}", "inset(0px 0px 0px 50%)"]
    assert shown(page) == half
    slider = page.get_by_role("slider")
    slider.focus()
    for key, left in (("ArrowRight", 51), ("Home", 0), ("End", 100), ("PageDown", 90)):
        page.keyboard.press(key)
        assert shown(page)[2] == f"inset(0px 0px 0px {left}%)"
    assert slider.get_attribute("aria-valuetext") == "90 % base, 10 % erased"
    assert page.evaluate("getComputedStyle(document.querySelector('.stage')).outlineStyle") == (
        "solid"
    )
    stage = page.locator(".slider .stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    assert box
    middle = box["y"] + box["height"] / 2
    # The line follows the pointer exactly, from one edge to the other.
    page.mouse.move(box["x"] + 0.9 * box["width"], middle)
    page.mouse.down()
    for share in (0.25, 0, 1):
        page.mouse.move(box["x"] + share * box["width"], middle, steps=4)
        assert shown(page)[2] == f"inset(0px 0px 0px {round(100 * share)}%)"
    page.mouse.up()
    page.touchscreen.tap(box["x"] + 0.75 * box["width"], middle)
    page.wait_for_function("document.querySelector('.slider [type=range]').value === '75'")
    assert said == []


@pytest.mark.slow
def test_the_slider_shows_every_pair_of_the_grids(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report.as_uri())
    pairs = page.locator("#pictures .grid .pair")
    options = page.locator(".slider option")
    assert options.all_inner_texts() == [
        pairs.nth(i).get_attribute("title") for i in range(pairs.count())
    ]
    groups = page.locator(".slider optgroup")
    assert [groups.nth(i).get_attribute("label") for i in range(groups.count())] == [
        "Prompts with church",
        "Retained prompts",
    ]
    page.get_by_label("Prompt and seed").select_option(index=10)
    sources = "Array.from(document.querySelectorAll({})).map(image => image.src)"
    own = page.evaluate(sources.format("'.slider .shots img'"))
    assert own == page.evaluate(sources.format("'#pictures .pair img'"))[20:22]


@pytest.mark.slow
def test_the_slider_blurs_what_the_grids_blur(browser: Browser, report: Path) -> None:
    page, _ = opened(browser, report.as_uri())
    filters = "Array.from(document.querySelectorAll('.shots img'), i => getComputedStyle(i).filter)"

    def blurred() -> list[bool]:
        return ["blur(" in found for found in page.evaluate(filters)]

    reveal = page.get_by_label("Show the images without blur")
    assert blurred() == [True, True]
    reveal.check()
    assert blurred() == [False, False]
    # Each pair is veiled anew; one in which nothing was flagged never is.
    prompts = page.get_by_label("Prompt and seed")
    prompts.select_option(index=1)
    assert blurred() == [True, True]
    prompts.select_option(index=12)
    assert blurred() == [False, False] and not reveal.is_visible()


@pytest.mark.slow
def test_on_a_phone_in_the_dark_the_slider_fits(browser: Browser, report: Path) -> None:
    page, said = opened(browser, report.as_uri(), 390, dark=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.get_by_role("slider").bounding_box()
    assert box and box["x"] >= 0 and box["x"] + box["width"] <= 390
    card = "getComputedStyle(document.querySelector('.slider select')).backgroundColor"
    assert page.evaluate(card) == "rgb(33, 31, 27)"
    assert said == []


@pytest.mark.slow
def test_without_scripts_the_grids_alone_are_seen(browser: Browser, report: Path) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(report.as_uri())
    assert not page.locator(".slider").is_visible()
    assert page.locator("#pictures .pair").first.is_visible()
