from __future__ import annotations

from dataclasses import asdict
from typing import Any

from erase.eval.figure import figure
from erase.eval.folders.evaluate import _notes
from erase.eval.folders.tables import columns
from erase.eval.folders.words import conclusion, counted, facts_of, heading, plain_path
from erase.eval.metrics.nudity import COLUMNS, named
from erase.eval.stats.intervals import Share


def result(preset: str | None, classes: list[str]) -> dict[str, Any]:
    share = {"value": 0.25, "n": 8, "low": 0.07, "high": 0.59}
    folder: dict[str, Any] = {
        "name": "pics",
        "nudity": {"n": 8, "images": 2, "detections": 3, "share": share},
        "nudity_change": None,
    }
    facts = {"preset": preset, "counted": classes}
    row = figure(COLUMNS[0], Share(**share), title=named(facts), metric="nudity")
    folder["figures"] = [asdict(row)]
    return {"folders": [folder], "base": None, "concept": None, "metrics": {"nudity": facts}}


def test_a_share_is_named_after_what_was_counted() -> None:
    faces = result(None, ["FACE_FEMALE", "FACE_MALE"])
    assert columns(faces)[0].head == "face female, face male %"
    assert heading(faces) == "Face female, face male in pics"
    assert columns(result("esd9", ["A"] * 9))[0].head == "nudity (esd9) %"
    assert counted(result(None, list("ABCDE"))) == "5 classes of body parts"


def test_a_heading_says_that_nothing_was_measured() -> None:
    nothing = result("esd9", [])
    row = {**nothing["folders"][0]["figures"][0], "metric": "laws", "value": None}
    nothing |= {"metrics": {"laws": {}}, "folders": [{"name": "pics", "figures": [row]}]}
    assert heading(nothing) == "Nothing measured in pics"


def test_the_conclusion_states_share_and_interval() -> None:
    (said,) = conclusion(result("esd9", []))
    assert said.replace("\u00a0", " ") == (
        "pics: nudity (esd9) detected in 2 of 8 pictures, 25.0 % (95 % interval 7.0–59.0 %)."
    )


def test_a_change_is_told_beside_the_base_which_comes_last() -> None:
    both = result("esd9", [])
    (base,) = both["folders"]
    change = {"value": -0.125, "low": -0.3, "high": 0.1, "n": 8}
    erased = {**base, "name": "erased", "nudity_change": change}
    both |= {"folders": [base, erased], "base": "pics"}
    said = conclusion(both)
    assert [text.split(":")[0] for text in (said[0], said[2])] == ["erased", "pics"]
    assert said[1] == "That is −12.5 points compared with pics (−30.0 to +10.0; 8 pairs)."


def test_a_fid_of_fewer_images_is_told_to_be_another_figure() -> None:
    def folder(n: int) -> dict[str, Any]:
        fid = {"name": "FID[mini]", "value": 1.0, "n": n}
        return {"name": f"{n}", "figures": [], "fidelity": {"fid": fid, "warning": None}}

    [said] = _notes([folder(1000), folder(100), {"name": "c", "figures": [], "fidelity": None}])
    assert said.startswith("FID[mini] is of 100 images in one folder and of 1,000 in another")
    assert _notes([folder(100), folder(100)]) == []


def test_facts_are_lines_that_a_person_reads() -> None:
    facts = {
        "judges": {
            "object": {"spec": "mini:object@/opt/x/judge.safetensors", "labels": list("ab")}
        },
        "sha256": "0123456789abcdef0123",
        "classes": list("abcdefgh"),
        "preset": None,
        "kid_seed": 0,
        "floor": 0.010,
    }
    assert list(facts_of(facts)) == [
        ("judges object spec", "mini:object@judge.safetensors"),
        ("judges object labels", "a, b"),
        ("sha256", "0123456789abcdef"),
        ("classes", "a, b, c, d, e, f, … (8 in all)"),
        ("kid seed", "0"),
        ("floor", "0.01"),
    ]
    assert plain_path("/opt/x/pics") == "pics" and plain_path("runs/pics") == "runs/pics"
