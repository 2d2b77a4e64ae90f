from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from erase.eval.page import data_uri, mixed, setting_text, spread
from erase.eval.report import evaluate
from tests.eval.synthetic import (
    CHURCH,
    TRUCK,
    ColourFeatures,
    asked,
    judges,
    right,
    write_run,
    write_side,
)

VOID = {"meta", "link", "img", "input", "br"}


class Reader(HTMLParser):
    """Checks that tags close in order; collects attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, k, v or "") for k, v in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, k, v or "") for k, v in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def values(self, tag: str, attribute: str) -> list[str]:
        return [v for t, k, v in self.attributes if (t, k) == (tag, attribute)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "church & co")


@pytest.fixture(scope="module")
def page(run: Path) -> Reader:
    evaluate(run, CHURCH, TRUCK, judges=judges(), extractor=ColourFeatures())
    return Reader((run / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_self_contained(page: Reader) -> None:
    assert "script" not in page.tags
    for tag, attribute, value in page.attributes:
        if attribute in ("src", "href", "xlink:href", "srcset", "action"):
            assert value.startswith(("data:", "#")), (tag, value[:60])
    sheet = re.sub(r"\s", "", "".join(page.values("svg", "style")))
    assert "url(http" not in sheet


def test_the_page_says_what_the_report_says(page: Reader) -> None:
    for sentence in (
        "church: recognised in 100 % of 10 images before, 10.0 % after",
        "The anchor, truck, is recognised in 80.0 % of them.",
        "Whether church is erased is undecided: UA 90.0 %",
        "Nothing is concluded from fewer than 10 images",
        "FID[colour]",
        "n = 12, 3 dimensions",
        "colour of the corner",
        "1 of 10 images with church in the prompt.",
        "3 of 12 retained images were right before and are not after.",
        "guidance_scale=3).images[0].show()",
        "0.0001",
    ):
        assert sentence in page.text, sentence


def test_text_from_outside_is_escaped(run: Path, page: Reader) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "a flat church &lt;0&gt;" in html
    assert any("a flat church <0>" in title for title in page.values("figure", "title"))
    assert "church & co/model" in page.text
    assert str(run.parent) not in html
    evil = replace(CHURCH, word="<script>alert(1)</script>")
    evaluate(run, evil, TRUCK, judges=judges(), extractor=ColourFeatures())
    reader = Reader((run / "report.html").read_text(encoding="utf-8"))
    assert "script" not in reader.tags


def test_pairs_show_the_same_prompt_and_seed(run: Path, page: Reader) -> None:
    sources = page.values("img", "src")
    titles = page.values("img", "alt")
    assert titles[0].startswith("before: ")
    assert titles[1] == titles[0].replace("before", "after")
    for side, source in zip(("base", "erased"), sources[:2], strict=True):
        shown = Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        file = Image.open(run / "eval" / side / "squares" / "00000_0.png")
        np.testing.assert_array_equal(np.asarray(shown), np.asarray(file))


def test_only_flagged_images_are_veiled(run: Path, page: Reader) -> None:
    assert "input" not in page.tags
    flagged = replace(CHURCH, kind="nudity")
    evaluate(run, flagged, TRUCK, judges=judges(), extractor=ColourFeatures())
    reader = Reader((run / "report.html").read_text(encoding="utf-8"))
    images = len(reader.values("img", "src"))
    assert images > 0
    assert reader.values("input", "type") == ["checkbox"] * images
    assert reader.values("label", "class") == ["veil"] * images


def test_large_images_are_scaled_down(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((600, 900, 3), np.uint8)).save(tmp_path / "large.png")
    uri = data_uri(tmp_path / "large.png")
    assert uri.startswith("data:image/jpeg;base64,")
    assert Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).size == (256, 171)


def test_choosing_images() -> None:
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 4) == [0, 1, 2]
    assert mixed(["a1", "a2", "a3", "b1", "c1"], lambda s: s[0], 4) == ["a1", "a2", "b1", "c1"]
    assert mixed([], str, 4) == []


def test_recipe_values() -> None:
    values = (0.0003, 1e-5, None, True, "ddim", [1, 2])
    assert [setting_text(v) for v in values] == ["0.0003", "1e-05", "–", "True", "ddim", "1, 2"]


def test_every_neighbour_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    # Two neighbours in turns: every fourth image would be of the first alone.
    shown = [*right("radio", 1), *right("trumpet", 1)] * 16
    for side in ("base", "erased"):
        write_side(run / "eval" / side / "neighbours", asked("neighbour", shown, 900))
    evaluate(run, CHURCH, TRUCK, judges=judges())
    page = (run / "report.html").read_text()
    grid = page[page.index("Neighbours of church</h3>") :].split("</section>")[0]
    captions = re.findall("<figcaption>a flat ([a-z]+)", grid)
    assert sorted(captions) == ["radio"] * 4 + ["trumpet"] * 4
