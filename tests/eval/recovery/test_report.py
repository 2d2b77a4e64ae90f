"""The files of an attack, and its section within a run's report."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from erase.eval.pages.table import Cell
from erase.eval.recovery.outcome import SIDES, Seen, outcome
from erase.eval.recovery.report import page, read, rows
from erase.eval.report.evaluate import STALE, evaluate
from erase.runtime.errors import UserError
from tests.eval.recovery.made import hits, write_attack
from tests.eval.synthetic import CHURCH, TRUCK, ColourFeatures, judges, write_run

TRAINED = {"train": {"seconds": 2.5, "peak_memory_mb": 7, "digest": "ab"}}


def test_a_folder_is_read_as_it_was_written_or_not_at_all(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    found = write_attack(tmp_path)
    assert read(tmp_path) == found and found["verdict"] == "returns"
    # 8 of 20 where the floor is 1 and the ceiling 20: 7 / 19.
    assert found["attacks"]["inversion"]["recovery"]["value"] == pytest.approx(7 / 19)
    lines = (tmp_path / "attack.csv").read_text().splitlines()
    assert lines[1].startswith("inversion,erased,0.4,20,")
    for text in ("{", "[]", json.dumps({**found, "schema": 0}), json.dumps({"schema": 1})):
        (tmp_path / "attack.json").write_text(text)
        with pytest.raises(UserError, match="delete it and attack again"):
            read(tmp_path)


def test_a_recovery_lies_in_its_interval_even_beyond_the_bounds() -> None:
    """20 of 20 where the ceiling is 19 and the floor 0, and 0 where the floor is 1."""
    ends = [(20, 19, 0), (0, 20, 1)]
    for erased, ceiling, floor in ends:
        seen = {
            side: Seen(hits(0), [hits(k)])
            for side, k in zip(SIDES, (erased, 0, ceiling, floor), strict=True)
        }
        [row] = rows({"attacks": {"a": asdict(outcome("a", False, seen))}})  # type: ignore[arg-type]
        cell = row["recovery"]
        assert isinstance(cell, Cell)
        low, high = (float(end) for end in cell.note.replace("−", "-").split("–"))
        assert low <= float(cell.text.replace("−", "-")) <= high


def test_images_that_are_gone_leave_the_page_whole(tmp_path: Path) -> None:
    found = write_attack(tmp_path)
    assert page(found, tmp_path).count("<img") == 2
    assert "<img" not in page(found, tmp_path / "elsewhere")
    assert "Images are blurred" not in page(found, tmp_path)
    assert "Images are blurred" in page(write_attack(tmp_path, kind="nudity"), tmp_path)


def test_a_report_tells_of_the_attacks_on_its_own_model(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", stages=TRAINED)
    found = write_attack(run / "attack", "ab")
    report = evaluate(run, CHURCH, TRUCK, judges=judges(), extractor=ColourFeatures())
    assert report["recovery"] == found
    assert report["verdict"][-1] == "The concept returns: a prompt is enough to bring it back."
    html = (run / "report.html").read_text()
    assert "Does it come back?" in html and "under attack: returns" in html
    assert "a church, seed 7" in html and "relearn, step by step" in html
    assert "The concept returns" in (run / "report.md").read_text()


def test_a_report_leaves_out_attacks_on_an_earlier_model(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", stages=TRAINED)
    write_attack(run / "attack", "another training")
    report = evaluate(run, CHURCH, TRUCK, judges=judges(), extractor=ColourFeatures())
    assert report["recovery"] is None and STALE in report["warnings"]
    assert "Does it come back?" not in (run / "report.html").read_text()
