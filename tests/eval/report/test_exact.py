"""The gap to exact unlearning, from figures that were measured once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erase.eval.report import exact
from erase.eval.report.evaluate import evaluate
from erase.runtime.errors import UserError
from tests.eval.synthetic import CHURCH, TRUCK, ColourFeatures, judges, write_run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(exact, "bundled", lambda name: tmp_path / name)
    return tmp_path / exact.PLACE


def told(run: Path) -> dict[str, object]:
    return evaluate(run, CHURCH, TRUCK, judges=judges(), extractor=ColourFeatures())


def test_a_run_stands_beside_a_model_that_was_measured_alike(place: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    alone = told(run)
    assert alone["exact"] is None and "exact unlearning" not in (run / "report.html").read_text()
    file = exact.write(run, "never-church")
    with pytest.raises(UserError, match="exists: choose another name, or add --overwrite"):
        exact.write(run, "never-church")
    same = told(run)["exact"]
    assert set(same["gaps"].values()) == {0.0} and same["gap"] == same["variation"] == 0.0
    # UA 9 of 10 against 10 of 10, IRA 10 of 12 against 11, CRA 11 of 12 against 11.
    known = json.loads(file.read_text())
    known["figures"]["ua"]["value"], known["figures"]["ira"]["value"] = 1.0, 11 / 12
    known["became"] = {"truck": 5, "radio": 5}
    file.write_text(json.dumps(known))
    report = told(run)
    found = report["exact"]
    assert found["gaps"]["ua"] == pytest.approx(-0.1) and found["gaps"]["cra"] == 0
    assert found["gap"] == pytest.approx((0.1 + 1 / 12 + 0) / 3)
    # Trucks 8, churches 1, radios 1 of 10 against 5, 0, 5: half of 0.3 + 0.1 + 0.4.
    assert report["became"]["erased"] == {"truck": 8, "church": 1, "radio": 1}
    assert found["variation"] == pytest.approx(0.4)
    [sentence] = [s for s in report["verdict"] if "exact unlearning" in s]
    assert "UA −10.0" in sentence and "gap to exact unlearning 6.1 points" in sentence
    assert "never-church" in (run / "report.html").read_text()


def test_other_prompts_sampler_or_judges_have_no_gap(place: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    told(run)
    exact.write(run, "never-church")
    recipe = {"name": "quick", "method": "salun", "lr": 1e-4, "guidance_scale": 4.0}
    assert told(write_run(tmp_path / "other", recipe=recipe))["exact"] is None
    manifest = next((run / "eval" / "base").glob("*/manifest.jsonl"))
    for side in ("base", "erased"):  # another seed on both
        file = run / "eval" / side / manifest.parent.name / "manifest.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows[0]["seed"] += 1
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert told(run)["exact"] is None


def test_chance_is_what_two_samples_of_one_distribution_differ_by() -> None:
    # Of one image each, from two labels seen equally often, half of all pairs differ wholly.
    assert exact.by_chance({"a": 1}, {"b": 1}) == pytest.approx(0.5, abs=0.05)
    assert exact.by_chance({"a": 50}, {"a": 50}) == 0


def test_a_damaged_file_is_named(place: Path) -> None:
    place.mkdir(parents=True)
    (place / "never-x.json").write_text("{")
    with pytest.raises(UserError, match=r"never-x.json can't be read"):
        exact.references()
