"""The demo's page in a real browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from erase.demo.page import page_of
from erase.demo.server import Server
from erase.demo.show import Show
from tests.browser import browser, needs_browser, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

__all__ = ["browser"]
pytestmark = [needs_browser, pytest.mark.slow]


@pytest.fixture
def server(show: Show) -> Iterator[Server]:
    with Server("127.0.0.1", 0) as made:
        made.show, made.page = show, page_of(show).encode()
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made
        made.stopped.set()
        made.shutdown()
        thread.join()
        assert made.turns.ended(20)


def status(page: Page, text: str) -> None:
    page.locator("#told", has_text=text).wait_for()


def test_a_prompt_is_typed_and_seen_in_all_columns(browser: Browser, server: Server) -> None:
    page, said = opened(browser, server.url)
    page.get_by_label("Prompt").fill("a truck")
    page.get_by_label("Seed").fill("12")
    page.keyboard.press("Enter")
    status(page, "“a truck”, seed 12.")
    images = page.locator(".column img")
    assert [images.nth(i).get_attribute("alt") for i in range(images.count())] == [
        "tiny: a truck (seed 12)",
        "church: a truck (seed 12)",
    ]
    loaded = "Array.from(document.images, image => image.complete && image.naturalWidth)"
    assert page.evaluate(loaded) == [16, 16]
    assert page.locator(".column li").count() == 2
    assert page.locator("progress").evaluate("bar => bar.value === bar.max")
    assert said == []


def test_a_click_on_an_example_draws_it_and_another_seed_draws_it_anew(
    browser: Browser, server: Server
) -> None:
    page, said = opened(browser, server.url)
    page.get_by_role("button", name="a truck").click()
    status(page, "“a truck”, seed 0.")
    before = page.locator(".column img").first.get_attribute("src")
    page.get_by_role("button", name="Another seed").click()
    status(page, "“a truck”")
    page.locator(f".column img[src='{before}']").wait_for(state="detached")
    assert said == []


def test_bad_input_is_told_on_the_page(browser: Browser, server: Server) -> None:
    page, said = opened(browser, server.url)
    problem = page.get_by_role("alert")
    for prompt, seed, wrong in (
        ("", "0", "There is no prompt"),
        ("church " * 100, "0", "longer than the 77 tokens"),
        ("<b>church</b>", "-1", "The seed '-1' can't be used"),
    ):
        page.get_by_label("Prompt").fill(prompt)
        page.get_by_label("Seed").fill(seed)
        page.get_by_role("button", name="Make images").click()
        problem.filter(has_text=wrong).wait_for()
        assert page.locator(".column img").count() == 0
    page.get_by_label("Seed").fill("1")
    page.get_by_role("button", name="Make images").click()
    status(page, "“<b>church</b>”, seed 1.")
    assert page.locator("#problem").is_hidden()
    assert said == []


def test_cancel_ends_the_work_and_the_next_prompt_is_drawn(
    browser: Browser, server: Server, show: Show
) -> None:
    server.show = replace(show, sampler=replace(show.sampler, steps=999))
    page, said = opened(browser, server.url)
    cancel = page.get_by_role("button", name="Cancel")
    assert cancel.is_disabled()
    page.get_by_role("button", name="Make images").click()
    status(page, "Making image 1 of 2: tiny.")
    # Another tab has to wait, and is told so.
    other, _ = opened(browser, server.url)
    other.get_by_role("button", name="Make images").click()
    status(other, "Waiting: 1 ahead of you.")
    cancel.click()
    status(page, "Cancelled.")
    status(other, "Making image 1 of 2: tiny.")
    other.close()
    assert server.turns.ended(20)
    server.show = show
    page.get_by_role("button", name="Make images").click()
    status(page, "“a church”, seed 0.")
    assert said == []


def test_a_server_that_ends_is_told_of(browser: Browser, server: Server, show: Show) -> None:
    server.show = replace(show, sampler=replace(show.sampler, steps=999))
    page, _ = opened(browser, server.url)
    page.get_by_role("button", name="Make images").click()
    status(page, "Making image 1 of 2: tiny.")
    server.stopped.set()
    page.get_by_role("alert").filter(has_text="The server ended the work").wait_for()


def test_of_nudity_every_image_is_blurred_until_clicked(
    browser: Browser, server: Server, show: Show
) -> None:
    server.show = replace(show, jury=replace(show.jury, veiled=True))
    page, _ = opened(browser, server.url)
    page.get_by_role("button", name="Make images").click()
    status(page, "“a church”, seed 0.")
    blur = "Array.from(document.images, image => getComputedStyle(image).filter.slice(0, 4))"
    assert page.evaluate(blur) == ["blur", "blur"]
    page.get_by_role("checkbox").first.check()
    page.wait_for_timeout(400)  # it fades
    assert page.evaluate(blur) == ["none", "blur"]
    page.get_by_role("checkbox").last.focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    rings = "getComputedStyle(document.querySelectorAll('.frame')[1]).outlineStyle"
    assert page.evaluate(rings) == "solid"


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_nothing_sticks_out(browser: Browser, server: Server, dark: bool) -> None:
    page, said = opened(browser, server.url, 390, dark=dark)
    page.get_by_role("button", name="Make images").click()
    status(page, "“a church”, seed 0.")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    boxes = [page.locator(".frame").nth(i).bounding_box() for i in range(2)]
    assert boxes[0] and boxes[1] and boxes[0]["y"] == boxes[1]["y"]  # side by side
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(23, 22, 19)" if dark else "rgb(251, 250, 246)")
    assert said == []
