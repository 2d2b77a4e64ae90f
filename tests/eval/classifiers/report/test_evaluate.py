"""A report of small networks: its contract, its words, and its files."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from erase.eval.classifiers.confidence import HIGH, LOW, WIDTH
from erase.eval.classifiers.evidence import margin
from erase.eval.classifiers.gap import FOUR
from erase.eval.classifiers.report import schema, tables
from erase.eval.classifiers.report.evaluate import evaluate, write
from erase.eval.classifiers.report.schema import json_schema
from tests.eval.classifiers.answers import Models, facts, saying
from tests.eval.classifiers.models import CLASSES, models

FILE = Path(str(schema.__file__)).with_name("report.schema.json")


@cache
def report(kind: str = "random", retrained: int = 3) -> dict[str, Any]:
    made = models(kind)
    others = made.retrained[:retrained]
    return evaluate(made.case, made.base, made.unlearned, others, facts(kind))


def of(made: Models) -> dict[str, Any]:
    return evaluate(made.case, made.base, made.unlearned, made.retrained, facts("random"))


def plain(told: dict[str, Any]) -> str:
    """The verdict, with plain spaces."""
    return " ".join(told["verdict"]).replace("\u00a0", " ")


def test_the_published_schema_is_that_of_the_code() -> None:
    assert FILE.read_text(encoding="utf-8") == json_schema()


@pytest.mark.parametrize(("kind", "retrained"), [("random", 3), ("class", 3), ("random", 0)])
def test_a_report_fits_and_a_broken_one_does_not(kind: str, retrained: int) -> None:
    written = json.loads(json.dumps(report(kind, retrained), allow_nan=False))
    published = json.loads(FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(written, published)
    written["summary"]["gap"]["value"] = "all"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(written, published)


def test_files_are_told_by_their_names_not_by_their_places() -> None:
    made = models("random")
    told = replace(facts("random"), run={"model": "cnn", "data": "npz@/home/somebody/own.npz"})
    found = evaluate(made.case, made.base, made.unlearned, (), told)
    assert found["run"]["data"] == "npz@own.npz" and "somebody" not in json.dumps(found)


def test_the_contract() -> None:
    found = report()["summary"]
    for side in ("base", "unlearned", "retrain"):
        for key in FOUR:
            value = found[side][key]
            assert {"value", "n", "low", "high"} <= set(value)
            assert 0 <= value["low"] <= value["value"] <= value["high"] <= 1
    made = models()
    wrong = [(s.logits["forget"].argmax(1) != made.case.labels["forget"]) for s in made.retrained]
    assert found["retrain"]["ua"]["value"] == pytest.approx(np.mean(wrong))
    assert found["retrain"]["ua"]["n"] == 3 and found["unlearned"]["ua"]["n"] == 40
    for key in ("gap", "floor"):
        assert found[key]["low"] <= found[key]["value"] <= found[key]["high"]


def test_the_gap_is_that_of_the_summary() -> None:
    found = report()["summary"]
    apart = [abs(found["unlearned"][key]["value"] - found["retrain"][key]["value"]) for key in FOUR]
    assert found["gap"]["value"] == pytest.approx(sum(apart) / 4)
    assert [abs(found["distances"][key]["value"]) for key in FOUR] == pytest.approx(apart)
    assert found["floor"]["value"] == pytest.approx(
        sum(found["floors"][key]["value"] for key in FOUR) / 4
    )


@pytest.mark.parametrize("retrained", [0, 1, 2])
def test_few_retrained_models_leave_reasons(retrained: int) -> None:
    told = report("random", retrained)
    for key in ("gap", "floor", "mean_gap"):
        found = told["summary"][key]
        assert (found["low"], found["high"]) == (None, None)
        assert found["reason"]
    assert (told["summary"]["gap"]["value"] is None) == (retrained == 0)
    assert told["retrained"] == retrained
    for row in tables.figures(told):
        for side in tables.SIDES:
            assert side not in row or row[side].note, row


def test_every_figure_that_is_printed_has_an_interval_or_a_reason() -> None:
    for kind in ("random", "class"):
        told = report(kind)
        rows = [*tables.figures(told), *tables.gaps(told)]
        cells = [cell for row in rows for key, cell in row.items() if key not in ("css", "n")]
        assert all(
            cell.note or cell.text == "–" or cell in [r.get("model") for r in rows]
            for cell in cells
        )
        assert all(row["n"].text != "–" for row in tables.figures(told))


def test_near_and_far_are_held_against_the_floor() -> None:
    others = {"r1": (9, 0, 12, 9), "r2": (10, 0, 13, 10), "r3": (11, 0, 12, 11)}
    near = of(saying(base=(0, 0, 10, 0), unlearned=(10, 0, 12, 10), **others))
    assert near["conclusion"] == "within reach of the floor"
    assert any("The two intervals meet" in sentence for sentence in near["verdict"])
    far = of(saying(base=(0, 0, 10, 0), unlearned=(50, 0, 12, 50), **others))
    assert far["conclusion"] == "beyond the floor"
    said = plain(far)
    assert "is wrong about these samples more often than they are" in said
    assert "UA is not “higher is better” here" in said
    assert "Of the four distances UA’s is the largest: 50.0 % against Retrain’s 10.0 %" in said
    assert "100 of 200 training samples, drawn at random" in said


def test_barely_forgotten_is_said_even_of_a_small_gap() -> None:
    others = {"r1": (9, 0, 12, 9), "r2": (10, 0, 13, 10), "r3": (11, 0, 12, 11)}
    told = of(saying(base=(0, 0, 10, 0), unlearned=(2, 0, 12, 2), **others))
    assert told["conclusion"] == "barely forgotten"
    assert "2.0 %, is nearer to the untouched model’s 0 %" in plain(told)
    assert str(tables.gaps(told)[0]["model"]) == "unlearned (barely forgotten)"


def test_what_lies_among_the_retrained_models_is_not_barely_forgotten() -> None:
    others = {"r1": (1, 0, 12, 1), "r2": (3, 0, 13, 3), "r3": (5, 0, 12, 5)}
    told = of(saying(base=(0, 0, 10, 0), unlearned=(1, 0, 12, 1), **others))
    assert told["conclusion"] != "barely forgotten"


def test_a_class_has_words_of_its_own() -> None:
    said = " ".join(report("class")["verdict"])
    assert "the class star, 50 of 200 training samples" in said
    assert "higher is better" not in said
    assert report("class")["forgotten"]["label"] == "star"


def test_retrained_models_are_measured_against_the_others() -> None:
    rows = {(r["side"], r["key"]): r for r in report()["figures"] if not r["group"]}
    assert rows["retrain-1", "tow"]["n"] == 2
    assert rows["base", "tow"]["n"] == 3
    mean = np.mean([rows[f"retrain-{n}", "tow"]["value"] for n in (1, 2, 3)])
    assert rows["retrain", "tow"]["value"] == pytest.approx(mean)
    assert rows["retrain", "tow"]["high"] <= 1


def test_confidences_count_every_sample_once() -> None:
    made, found = models(), report()["confidence"]
    assert found["retrain"]["test"]["n"] == 3 * 120 == sum(found["retrain"]["test"]["counts"])
    own = found["base"]["forget"]
    assert len(own["counts"]) == (HIGH - LOW) / WIDTH
    above = margin(made.base.logits["forget"], made.case.labels["forget"]) >= 0
    half = int(-LOW / WIDTH)
    assert sum(own["counts"][half:]) == above.sum()


def test_the_files(tmp_path: Path) -> None:
    told = report("class")
    write(told, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(told))
    lines = (tmp_path / "report.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Forgetting star" and lines[2] == f"- {told['verdict'][0]}"
    with (tmp_path / "report.csv").open(newline="", encoding="utf-8") as file:
        rows = {(r["side"], r["figure"], r["group"]): r for r in csv.DictReader(file)}
    shares = [float(rows["unlearned", "became", name]["value"]) for name in CLASSES]
    assert sum(shares) == pytest.approx(1)
    assert float(rows["unlearned", "gap", ""]["value"]) == told["summary"]["gap"]["value"]
    assert rows["retrain", "floor", ""]["n"] == "3"
    assert rows["retrain-2", "ua", ""]["value"] == "1.0"


@pytest.mark.parametrize(
    ("kind", "spec", "title", "asked"),
    [
        ("random", "random:0.2", "40 samples at random", "drawn at random"),
        ("class", "class:star", "star", "the class star"),
        ("cell", "cell:church/ink", "church in ink", "church in ink"),
        ("flipped", "flipped:0.2", "40 samples with a wrong label", "wrong labels on purpose"),
        ("indices", "indices:a.txt", "40 samples of a list", "from a list"),
    ],
)
def test_what_was_to_be_forgotten(kind: str, spec: str, title: str, asked: str) -> None:
    from erase.eval.classifiers.report import words

    forgotten = {"kind": kind, "spec": spec, "label": "star", "samples": 40, "retained": 160}
    assert tables.title({"forgotten": forgotten}) == f"Forgetting {title}"
    assert asked in words.asked(forgotten) and "40 of 200" in words.asked(forgotten)
