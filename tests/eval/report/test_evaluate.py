from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from erase.eval.instruments.judges import ASSUMED
from erase.eval.report.evaluate import SCHEMA, evaluate, read_report
from erase.eval.report.over_erasure import EMPTY, MISSING, ONE_SEED
from erase.eval.stats.intervals import share
from erase.eval.stats.paired import newcombe_paired
from erase.runtime.errors import UserError
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

FEW = ("largest_drop", "drop_by_distance")
"""Figures that need more images of a label than the squares have."""
ELSEWHERE = ("laws_ks", "laws_variety", "laws_read")
"""Figures of the bundled model's images alone."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def test_the_report_equals_the_table_counted_by_hand(run: Path) -> None:
    report = evaluate(run, CHURCH, TRUCK, judges=judges(), extractor=ColourFeatures())
    assert report == read_report(run)
    assert report["schema"] == SCHEMA

    def figure(k: int, n: int) -> dict[str, float]:
        found = share(k, n)
        assert found is not None
        return asdict(found)

    reasons = report["summary"].pop("reasons")
    assert report["summary"] == {
        "base": {
            "ua": figure(0, 10),
            "ra": figure(11, 12),
            "ira": figure(11, 12),
            "cra": figure(12, 12),
            "became_anchor": figure(0, 10),
        },
        "erased": {
            "ua": figure(9, 10),
            "ra": figure(9, 12),
            "ira": figure(10, 12),
            "cra": figure(11, 12),
            "became_anchor": figure(8, 10),
        },
    }
    assert set(reasons) == {"clip_score", "lpips", "prior_mass", *FEW, *ELSEWHERE}
    table = {
        (r["axis"], r["label"], r["role"]): (r["base"], r["erased"], r["change"])
        for r in report["per_class"]
    }
    assert table == {
        ("object", "church", "forget"): (figure(10, 10), figure(1, 10), -0.9),
        ("object", "radio", "retain"): (figure(4, 4), figure(2, 4), -0.5),
        ("object", "truck", "retain"): (figure(4, 4), figure(4, 4), 0.0),
        ("object", "trumpet", "retain"): (figure(3, 4), figure(4, 4), 0.25),
        ("style", "flat", "retain"): (figure(8, 8), figure(7, 8), -0.125),
        ("style", "ink", "retain"): (figure(4, 4), figure(4, 4), 0.0),
    }
    assert report["became"]["erased"] == {"truck": 8, "radio": 1, "church": 1}
    assert report["confusion"]["erased"]["radio"] == {"radio": 2, "truck": 2}
    assert report["images"] == {
        side: {"forget": forget, "retain": 12, "neighbour": 0, "general": 0, "empty": 0}
        for side, forget in (("base", 10), ("base2", 0), ("erased", 10))
    }
    fid, kid = report["fidelity"]
    assert (fid["name"], kid["name"]) == ("FID[colour]", "KID[colour]")
    assert (fid["n"], fid["reference_n"], fid["dimensions"]) == (12, 12, 3)
    assert 0 <= fid["base"] < fid["erased"]
    # Four images of a class are too few for damage; UA is 9 of 10, which is 59.6 to 98.2 %.
    assert report["conclusion"]["verdict"] == "undecided"
    assert report["conclusion"]["needed"] is None
    assert report["verdict"][:2] == report["conclusion"]["words"]
    assert not any("radio" in line for line in report["verdict"])


def test_provenance(run: Path) -> None:
    report = evaluate(run, CHURCH, TRUCK, judges=judges(), extractor=ColourFeatures())
    assert report["run"] == {
        "concept": "squares/church",
        "anchor": "squares/truck",
        "model": "squares",
        "method": "salun",
        "recipe": "quick",
        "seed": 3,
        "neighbours": None,
    }
    made = report["provenance"]
    assert made["image_seeds"] == {"base": [100, 211], "base2": [700, 711], "erased": [100, 211]}
    assert made["metrics"]["classifier"]["judges"]["style"]["spec"] == "colour of the corner"
    assert made["metrics"]["fidelity"]["extractor"]["dimensions"] == 3
    assert made["metrics"]["fidelity"]["kid"] == {"subsets": 100, "subset_size": 50, "seed": 0}
    assert made["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert made["seconds"]["train"] == 2.5
    assert made["seconds"]["eval"] > 0
    assert made["model"]["fingerprint"]["denoiser"] == "ab" * 32
    assert [s["forget"] for s in report["training"]] == pytest.approx(
        [2 / (i + 1) for i in range(6)]
    )
    assert report["mask"] == []


def test_a_class_carries_its_paired_interval(run: Path) -> None:
    report = evaluate(run, CHURCH, TRUCK, judges=judges())
    rows = {(r["axis"], r["label"]): r["paired"] for r in report["per_class"]}
    # Radio: 2 right on both sides, 2 before alone. Trumpet: 3 on both, 1 after alone.
    assert rows["object", "radio"] == asdict(newcombe_paired(2, 2, 0, 0))
    assert rows["object", "trumpet"] == asdict(newcombe_paired(3, 0, 1, 0))


def test_no_place_of_the_machine_is_written(tmp_path: Path) -> None:
    file = "/home/ada/judges/object.pth"
    run = write_run(tmp_path / "run", model={"source": "/home/ada/sd.safetensors"})
    known = judges()
    known["object"].spec = f"torchvision:resnet18@{file}"
    known["object"].facts = {"file": file, "sha256": "cd" * 32, "named_by": ASSUMED}
    report = evaluate(run, CHURCH, TRUCK, judges=known)
    judge = report["provenance"]["metrics"]["classifier"]["judges"]["object"]
    assert (judge["spec"], judge["file"]) == ("torchvision:resnet18@object.pth", "object.pth")
    assert report["run"]["model"] == "sd.safetensors"
    assert "torchvision:resnet18@object.pth were assumed" in " ".join(report["warnings"])
    for written in run.glob("report.*"):
        text = written.read_text(encoding="utf-8")
        assert "/home/ada" not in text and str(tmp_path) not in text
    assert "cd" * 8 in (run / "report.html").read_text(encoding="utf-8")


def test_the_mask_is_reported_by_layer(run: Path) -> None:
    from erase.unlearn.mask import Mask

    saliency = {"a.weight": torch.tensor([[4.0, 1.0], [3.0, 0.0]]), "b.bias": torch.tensor([2.0])}
    Mask.top(saliency, 0.6).save(run / "mask.safetensors")
    report = evaluate(run, CHURCH, TRUCK, judges=judges())
    assert report["mask"] == [
        {"name": "a.weight", "masked": 2, "size": 4},
        {"name": "b.bias", "masked": 1, "size": 1},
    ]
    assert "Saliency by layer" in (run / "report.html").read_text()


def test_a_second_evaluation_measures_nothing_again(run: Path) -> None:
    first, again, features = judges(), judges(), ColourFeatures()
    report = evaluate(run, CHURCH, TRUCK, judges=first, extractor=features)
    # Of 44 images 9 are the same file before and after, 8 of them retained.
    assert first["object"].seen == 44 - 9
    # Retained images of three sides, and the base's forget images.
    assert features.seen == 36 - 8 + 10
    repeated = evaluate(run, CHURCH, TRUCK, judges=again, extractor=features)
    assert again["object"].seen == again["style"].seen == 0
    assert features.seen == 36 - 8 + 10
    for made in (report, repeated):
        made["provenance"].pop("created")
        made["provenance"].pop("seconds")
    assert repeated == report


def test_without_judge_and_network_nothing_is_claimed(run: Path) -> None:
    report = evaluate(run, CHURCH, TRUCK)
    assert report["summary"]["erased"]["ua"] is None
    judged = ("ua", "ra", "ira", "cra", "became_anchor", "binding", "rest_kept", "prior_mass", *FEW)
    assert report["summary"]["reasons"] == {
        **dict.fromkeys(judged, "not measured: no judge"),
        **dict.fromkeys(ELSEWHERE, "not measured: only the bundled drawn world has known laws"),
        "clip_score": "not measured: no --clip model",
        "lpips": "not measured: no --lpips network",
        "fidelity": "not measured: no feature network for this model's images",
    }
    assert report["per_class"] == []
    assert report["fidelity"] == []
    assert report["verdict"] == report["conclusion"]["words"]
    assert report["conclusion"]["verdict"] == "nothing concluded"
    page = (run / "report.html").read_text()
    assert "not measured: no judge" in page
    assert "Retained prompts" in page


def test_sides_of_other_prompts_are_refused(run: Path) -> None:
    import shutil

    side = run / "eval" / "erased"
    shutil.rmtree(side)
    with pytest.raises(UserError, match="no finished images in .*erased"):
        evaluate(run, CHURCH, TRUCK, judges=judges())
    write_side(side / "squares", asked("forget", right("church", 10), 5))
    with pytest.raises(UserError, match="different prompts or seeds"):
        evaluate(run, CHURCH, TRUCK, judges=judges())
    assert not (run / "report.json").exists()


def test_a_folder_without_a_run_or_report_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="report.json"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(UserError, match="can't be read"):
        read_report(tmp_path)
    with pytest.raises(UserError, match="run.json"):
        evaluate(tmp_path, CHURCH, TRUCK)


def test_the_report_is_plain_json(run: Path) -> None:
    evaluate(run, CHURCH, TRUCK, judges=judges(), extractor=ColourFeatures())
    text = (run / "report.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["summary"]["base"]["ua"]["low"] == 0


def test_what_else_moved_is_measured_apart(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", model={"source": "mini"})
    for side, shown in (
        ("base", [*right("radio", 3), *wrong("radio", "truck", 1)]),
        ("erased", [*right("radio", 2), *wrong("radio", "church", 2)]),
    ):
        write_side(run / "eval" / side / "neighbours", asked("neighbour", shown, 900))
        write_side(run / "eval" / side / "empty", asked("empty", right("truck", 5), 950))
    report = evaluate(run, CHURCH, TRUCK, judges=judges())
    # The headline figures are as without them.
    assert report["summary"]["erased"]["ua"]["n"] == 10
    assert report["summary"]["erased"]["ra"]["value"] == pytest.approx(9 / 12)
    assert report["images"]["erased"] == {
        "forget": 10,
        "retain": 12,
        "neighbour": 4,
        "general": 0,
        "empty": 5,
    }
    groups = {g["name"]: g for g in report["over_erasure"]["groups"]}
    assert list(groups) == ["forget", "retain", "neighbour", "empty"]
    near = groups["neighbour"]
    assert (near["set"], near["n"], near["prompts"]) == ("neighbours", 4, 4)
    assert (near["recognised_base"]["value"], near["recognised_erased"]["value"]) == (0.75, 0.5)
    # The first two are the same files before and after.
    assert near["lpips"]["n"] == 4
    assert near["lpips"]["value"] > 0
    assert groups["empty"]["lpips"]["value"] == 0
    assert groups["empty"]["clip_erased"]["reason"] == EMPTY
    assert groups["retain"]["recognised_erased"] is None
    assert report["over_erasure"]["missing"] == {"general": MISSING["general"]}
    assert report["over_erasure"]["lpips"] == "LPIPS[mini]"
    assert report["over_erasure"]["other_seed"]["n"] == 12
    # The second base set repeats the retained prompts alone. Image by image, the mean of a
    # difference is the difference of the means.
    kept = groups["retain"]
    assert kept["other_seed"] == report["over_erasure"]["other_seed"]
    assert kept["further"]["n"] == 12
    moved = kept["lpips"]["value"] - kept["other_seed"]["value"]
    assert kept["further"]["value"] == pytest.approx(moved)
    assert kept["further"]["low"] < kept["further"]["value"] < kept["further"]["high"]
    assert near["further"]["reason"] == ONE_SEED.reason
    assert "neighbours" in report["verdict"][-1]
    page = (run / "report.html").read_text()
    assert "What else moved" in page
    assert "Neighbours of church" in page
    assert MISSING["general"] in page
    assert "| neighbours of church (4 prompts) | 4 |" in (run / "report.md").read_text()
    assert "LPIPS[mini],,,neighbour,erased,4," in (run / "report.csv").read_text()
