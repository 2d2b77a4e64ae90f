"""``erase combine``: the sum of runs' edits, judged for each concept, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from erase.cli.main import main
from erase.eval.instruments.choice import Instruments
from erase.formats.base import open_base
from erase.formats.folder import read_parts
from erase.methods._combined import add
from erase.runs.combine import _common, _instruments
from erase.runs.evaluation import requests
from erase.runs.make import resume
from erase.runs.run import Sources

QUICK = (
    "--recipe uce --sampling-steps 1 --sampling-batch 8 --size 16 --eval-forget 1 --eval-retain 1 "
    "--eval-neighbours 0 --eval-general 0 --eval-empty 0 --device cpu"
).split()


@pytest.fixture(scope="module")
def runs(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of the tiny model, not evaluated."""
    place = tmp_path_factory.mktemp("runs")
    for word, instead in (("church", "truck"), ("radio", "horn")):
        task = ["--concept", f"a {word}", "--anchor", f"a {instead}", "--out", str(place / word)]
        stages = ["--stages", "images,mask,train"]
        main(["run", "--model", str(tiny_folder), *task, *QUICK, *stages])
    return [place / "church", place / "radio"]


def test_one_model_judged_for_each_concept(
    runs: list[Path], tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both"
    main(["combine", *map(str, runs), "--out", str(out), "--device", "cpu"])
    base = open_base(str(tiny_folder)).denoiser_state()
    expected = add(base, [read_parts(run / "model", "denoiser") for run in runs])
    found = read_parts(out / "model", "denoiser")
    assert all(torch.equal(found[name], value) for name, value in expected.state.items())
    told = capsys.readouterr()
    assert f"{expected.shared:,} of {expected.moved:,} moved weights (100.0" in told.err
    for word in ("church", "radio"):
        report = json.loads((out / f"concepts/a-{word}/report.json").read_text())
        assert report["concept"]["name"] == f"a {word}"
    card = (out / "model/README.md").read_text()
    assert (
        "`tiny` was made to forget “a church + a radio” by adding up the edits of the runs" in card
    )
    made = "(uce, recipe uce, seed 0)"
    assert f"church {made} + radio {made}. Whether" in card and "no longer equal the base's" in card
    # Their cards are written anew when they are judged again; the sum is the same.
    (runs[0] / "model/README.md").write_text("another card")
    main(["combine", *map(str, runs), "--out", str(out), "--device", "cpu"])
    facts = json.loads((out / "run.json").read_text())
    assert facts["recipe"]["overlap"] == 1.0
    # What reads a run's folder reads this one, though no recipe can make it.
    again = resume(out)
    assert again is not None and again.recipe.method == "combined"
    assert [target.concept.word for target in again.targets] == ["a church", "a radio"]
    asked = ["--prompt", "a church", "--out", str(tmp_path / "images"), "--device", "cpu"]
    main(["generate", "--model", str(out / "model"), *asked])
    said = refused(capsys, "--out", out, command="eval")
    assert "no recipe makes (combined)" in said and "by the 'erase combine' that made it" in said


def kept_of(run: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / "run.json").read_text())
    return found


def test_a_judge_of_one_run_serves_those_without(runs: list[Path], tmp_path: Path) -> None:
    """Whichever run is named first."""
    church, radio = (resume(folder) for folder in runs)
    assert church is not None and radio is not None
    judged = replace(radio, instruments=Instruments(judge="timm:x@y.pth", clip="c"))
    for pair in ([church, judged], [judged, church]):
        assert _instruments(pair).judge == "timm:x@y.pth" and _instruments(pair).clip == "c"
    [target] = church.targets
    mine = target._replace(concept=replace(target.concept, judge="mini"))
    own = replace(church, targets=(mine,))
    assert _instruments([own, judged]).judge is None and _instruments([own, judged]).clip == "c"
    assert _common([church, radio], "retain") is None
    other = replace(church, sources=Sources(retain="a.csv", neighbours="n.csv"))
    assert _common([other, other], "neighbours") == "n.csv"
    assert _common([other, radio], "retain") is None


def refused(capsys: pytest.CaptureFixture[str], *argv: object, command: str = "combine") -> str:
    with pytest.raises(SystemExit) as stop:
        main([command, *map(str, argv), "--device", "cpu"])
    assert stop.value.code == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if x.startswith("erase: ")][-1:]
    return line


def test_mistakes(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    church, radio = runs
    out = tmp_path / "out"
    assert "takes at least two runs" in refused(capsys, church, "--out", out)
    assert "is not a run folder" in refused(capsys, church, tmp_path, "--out", out)
    assert "--overlap refuse" in refused(capsys, church, radio, "--overlap", "refuse", "--out", out)
    assert "was given twice" in refused(capsys, church, church, "--out", out)
    other = tmp_path / "other"
    shutil.copytree(radio, other)
    facts = json.loads((other / "run.json").read_text())

    def changed(**parts: object) -> None:
        (other / "run.json").write_text(json.dumps({**facts, **parts}))

    changed(model={**facts["model"], "fingerprint": {"denoiser": "0"}, "source": "elsewhere"})
    assert "from different bases" in refused(capsys, church, other, "--out", out)
    lost = {**facts["model"], "fingerprint": {"denoiser": "0"}}
    for run in (church, other):
        kept = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**kept, "model": lost}))
    assert "is no longer the model" in refused(capsys, church, other, "--out", out)
    (church / "run.json").write_text(json.dumps({**kept_of(church), "model": facts["model"]}))
    changed(recipe={**facts["recipe"], "method": "combined"})
    assert "was not made by a method" in refused(capsys, church, other, "--out", out)
    changed(recipe={**facts["recipe"], "method": "adv_unlearn"})
    assert "moved the text encoder" in refused(capsys, church, other, "--out", out)
    changed()
    shutil.rmtree(other / "model")
    assert "has no model yet" in refused(capsys, church, other, "--out", out)
    assert not out.exists()
    out.mkdir()
    with FileLock(out / ".lock"):
        assert "Another process is writing" in refused(capsys, church, radio, "--out", out)
    (out / "mine.txt").write_text("x")
    assert "not from a run" in refused(capsys, church, radio, "--out", out)


def test_prompts_that_one_run_was_trained_on_judge_nothing(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What one run holds out is what the other was trained to retain."""
    church = resume(runs[0])
    assert church is not None
    held_out = [row.prompt for row in requests(church)["erased"] if row.role == "retain"]
    file, other = tmp_path / "mine.csv", tmp_path / "radio"
    file.write_text("prompt,seed\n" + "".join(f'"{prompt}",1\n' for prompt in set(held_out)))
    shutil.copytree(runs[1], other)
    facts = json.loads((other / "run.json").read_text())
    facts["given"]["retain"] = str(file)
    (other / "run.json").write_text(json.dumps(facts))
    said = refused(capsys, runs[0], other, "--out", tmp_path / "out")
    assert "radio was trained to retain" in said and "with the same --retain" in said
