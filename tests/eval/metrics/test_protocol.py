from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from erase.eval import store
from erase.eval.instruments.setting import Setting
from erase.eval.metrics import build_metric, list_metrics
from erase.eval.pictures import read_pictures
from erase.eval.store import measured, measured_labelled
from erase.runtime.errors import UserError
from tests.eval.synthetic import CHURCH, TRUCK, asked, right, write_side


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_side(tmp_path / "images", asked("retain", right("radio", 7), 0))
    return tmp_path / "images"


def test_metrics_are_found_by_name() -> None:
    setting = Setting(CHURCH, TRUCK, "mini-like", [], judges={}, extractor=None)
    assert {"classifier", "fidelity"} <= set(list_metrics())
    with pytest.raises(UserError, match="Did you mean 'classifier'"):
        build_metric("classifer", setting)


def test_pictures_are_those_of_the_manifest(folder: Path) -> None:
    pictures = read_pictures(folder)
    assert [p.case_number for p in pictures] == list(range(7))
    assert pictures[2].prompt == "a flat radio <2>"
    assert pictures[2].key == ("images", 2, 0)


def test_altered_and_missing_images_are_refused(folder: Path) -> None:
    file = folder / "00003_0.png"
    file.write_bytes((folder / "00004_0.png").read_bytes())
    with pytest.raises(UserError, match="00003_0.png is not the image"):
        read_pictures(folder)
    file.unlink()
    with pytest.raises(UserError, match="00003_0.png is missing"):
        read_pictures(folder)


def test_measuring_goes_on_where_it_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CHUNK", 4)
    pictures = read_pictures(folder)
    sizes: list[int] = []

    def compute(images: list[object]) -> list[int]:
        if sum(sizes) == 6:
            raise KeyboardInterrupt
        sizes.append(len(images))
        return [int(im[7, 0, 0]) for im in images]  # type: ignore[index]

    def run(by: str = "centre") -> list[int]:
        store = tmp_path / "store"
        return measured(pictures, compute, store=store, by=by, title="x", batch=2)

    with pytest.raises(KeyboardInterrupt):
        run()
    assert sizes == [2, 2, 2]
    sizes.clear()
    # The first chunk of four was kept, the half-done one was not.
    assert run() == list(range(7))
    assert sizes == [2, 1]
    assert run() == list(range(7))
    assert sizes == [2, 1]


def test_one_image_that_two_prompts_ask_for_is_measured_for_each(
    folder: Path, tmp_path: Path
) -> None:
    one, two = read_pictures(folder)[:2]
    again = replace(two, sha256=one.sha256, labels={**one.labels, "object": "truck"})
    seen: list[str] = []

    def compute(images: list[object], labels: list[Mapping[str, str]]) -> list[str]:
        seen.extend(own["object"] for own in labels)
        return [own["object"] for own in labels]

    for _ in range(2):
        found = measured_labelled([one, again], compute, store=tmp_path / "s", by=1, title="x")
        assert found == ["radio", "truck"] == seen


def test_the_store_holds_whole_rows(folder: Path, tmp_path: Path) -> None:
    pictures = read_pictures(folder)
    measured(pictures, lambda im: [1] * len(im), store=tmp_path / "s", by=1, title="x")
    [file] = (tmp_path / "s").rglob("*.jsonl")
    rows = dict(map(json.loads, file.read_text().splitlines()))
    assert rows == {p.sha256: 1 for p in pictures}
