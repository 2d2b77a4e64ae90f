from __future__ import annotations

import base64
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from erase.eval.pages.html import data_uri, mixed, setting_text, spread, whole
from erase.eval.report.evaluate import evaluate
from erase.eval.report.figures import DOWN, UP, _cell, tone
from tests.eval.synthetic import (
    CHURCH,
    TRUCK,
    ColourFeatures,
    asked,
    judges,
    right,
    write_run,
    write_side,
    wrong,
)

VOID = {"meta", "link", "img", "input", "br"}
SLIDER = ["range", "checkbox"]
"""Its inputs: the slider itself, and what takes the blur off its images."""


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
        if self.open[-1:] not in (["style"], ["script"]):
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
    # One script, in the page itself: the slider's.
    assert page.tags.count("script") == 1
    assert not page.values("script", "src")
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
        "3 of 12 retained images were recognised correctly before and are not after.",
        "guidance_scale=3).images[0].show()",
        "0.0001",
    ):
        assert sentence in page.text, sentence


def test_the_contents_lead_to_every_section(page: Reader) -> None:
    links = [v.removeprefix("#") for v in page.values("a", "href")]
    assert links == page.values("section", "id")
    assert "failures" in links and "provenance" in links


def test_which_way_is_better_and_whether_it_got_so(page: Reader, run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    assert page.text.count("↑") > page.text.count("↓") > 0
    # UA went from 0–27.8 to 59.6–98.2 %, IRA from 64.6–98.5 to 55.2–95.3 %.
    assert re.search(r'class="num better">90\.0', html)
    assert re.search(r'class="num ">83\.3', html)
    low = {"low": 0.1, "high": 0.2}
    high = {"low": 0.3, "high": 0.4}
    assert [tone(low, high, UP), tone(high, low, UP), tone(low, high, DOWN)] == [
        "better",
        "worse",
        "worse",
    ]
    assert tone(low, {"low": 0.2, "high": 0.3}, UP) == tone(None, low, UP) == ""


def test_intervals_do_not_break_across_lines() -> None:
    text = "UA 99.2 % (95 % interval 95.4–99.9 %, n = 1,200) & +0.1 to −0.2"
    assert whole(text) == (
        'UA 99.2 % (95 % interval <span class="nb">95.4–99.9 %</span>, <span class="nb">n = '
        '1,200</span>) &amp; <span class="nb">+0.1 to −0.2</span>'
    )


def test_a_distance_is_read_beside_its_floor() -> None:
    fid = {"name": "FID[x]", "title": "FID[x]", "against": "reference", "digits": None, "unit": ""}
    base = {**fid, "value": 38.8, "note": "", "low": None, "high": None, "reason": None}
    notes = [
        _cell(row, base).note for row in (base, {**base, "value": 32.6}, {**base, "value": 40})
    ]
    assert notes == ["floor", "below the floor: no sign of change", ""]
    assert _cell({**base, "note": "± 0.15 over subsets"}, base).note == "± 0.15 over subsets"


def test_text_from_outside_is_escaped(run: Path, page: Reader) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "a flat church &lt;0&gt;" in html
    assert any("a flat church <0>" in title for title in page.values("figure", "title"))
    assert "church & co/model" in page.text
    assert str(run.parent) not in html
    evil = replace(CHURCH, word="<script>alert(1)</script>")
    evaluate(run, evil, TRUCK, judges=judges(), extractor=ColourFeatures())
    reader = Reader((run / "report.html").read_text(encoding="utf-8"))
    assert reader.tags.count("script") == 1
    assert "alert(1)" in reader.text


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
    assert page.values("input", "type") == SLIDER
    flagged = replace(CHURCH, kind="nudity")
    evaluate(run, flagged, TRUCK, judges=judges(), extractor=ColourFeatures())
    reader = Reader((run / "report.html").read_text(encoding="utf-8"))
    images = len(reader.values("img", "src"))
    assert images > 0
    assert sorted(reader.values("input", "type")) == sorted([*SLIDER, *["checkbox"] * images])
    assert reader.values("label", "class").count("veil") == images


def test_where_nudity_is_among_the_concepts_previews_are_veiled(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "previews" / "step-00075").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(run / "previews" / "step-00075" / "0.png")
    shown = [{"prompt": "a person", "seed": 1, "role": "forget"}]
    (run / "previews" / "previews.json").write_text(json.dumps({"images": shown}))
    facts = json.loads((run / "run.json").read_text())
    counts = []
    for kinds in (["object"], ["object", "nudity"]):
        (run / "run.json").write_text(json.dumps({**facts, "kinds": kinds}))
        evaluate(run, CHURCH, TRUCK, judges=judges(), extractor=ColourFeatures())
        reader = Reader((run / "report.html").read_text(encoding="utf-8"))
        counts.append(reader.values("label", "class").count("veil"))
    assert counts == [0, 1]


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


def test_every_neighbour_is_shown_and_nothing_went_wrong_where_nothing_did(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    shutil.rmtree(run / "eval" / "erased")
    gone = wrong("church", "truck", 10)
    kept = [*right("truck", 4), *right("radio", 4, "ink"), *right("trumpet", 4)]
    rows = asked("forget", gone, 100) + asked("retain", kept, 200)
    write_side(run / "eval" / "erased" / "squares", rows)
    # Two neighbours in turns: every fourth image would be of the first alone.
    shown = [*right("radio", 1), *right("trumpet", 1)] * 16
    for side in ("base", "erased"):
        write_side(run / "eval" / side / "neighbours", asked("neighbour", shown, 900))
    evaluate(run, CHURCH, TRUCK, judges=judges())
    page = (run / "report.html").read_text()
    grid = page[page.index("Neighbours of church</h3>") :].split("</section>")[0]
    captions = re.findall("<figcaption>a flat ([a-z]+)", grid)
    assert sorted(captions) == ["radio"] * 4 + ["trumpet"] * 4
    assert "The neighbours come from the concept’s file:" in page
    failures = page[page.index('<section id="failures">') :].split("</section>")[0]
    assert failures.count("<p>None.</p>") == 2
    assert "0 of 12 retained images were recognised correctly before and are not after." in failures
    # Truck and radio were never missed: a word is enough.
    assert "before and after: radio (4), truck (4)." in page
