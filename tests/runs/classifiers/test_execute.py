"""Whole runs of tiny classifiers: what they write, resume, refuse and repeat."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from erase.formats.tensors import read_tensors
from erase.recipes.classifier import load_recipe
from erase.runs.classifiers import dryrun, stages
from erase.runs.classifiers.dryrun import describe
from erase.runs.classifiers.execute import execute
from erase.runs.classifiers.run import ClassifierRun, Draw, base_key, make_run
from erase.runtime.errors import UserError
from erase.unlearn.mask import Mask

QUICK = {"epochs": 6.0, "lr": 0.1, "batch": 16}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Four classes of 8 px images: a bright quadrant each, with noise."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[Any, Any]:
        y = np.arange(count) % 4
        x = rng.integers(0, 120, (count, 8, 8), dtype=np.uint8)
        for image, label in zip(x, y, strict=True):
            top, left = 4 * (label // 2), 4 * (label % 2)
            image[top : top + 4, left : left + 4] += 100
        return x, y

    (x, y), (u, v) = draw(160), draw(80)
    file = tmp_path_factory.mktemp("data") / "quadrants.npz"
    np.savez(file, x_train=x, y_train=y, x_test=u, y_test=v)
    return f"npz@{file}"


def make(data: str, out: Path, forget: str = "random:0.1", **more: Any) -> ClassifierRun:
    recipe = load_recipe(more.pop("recipe", "salun"), {"epochs": 2.0, "batch_size": 16})
    given = {"training": QUICK, "device": "cpu", "out": out, **more}
    return make_run("cnn", data, forget, recipe, **given)


@pytest.fixture(scope="module")
def done(data: str, tmp_path_factory: pytest.TempPathFactory) -> ClassifierRun:
    run = make(data, tmp_path_factory.mktemp("run") / "a")
    execute(run, told=False)
    return run


def test_a_run_writes_what_other_tools_rely_on(done: ClassifierRun) -> None:
    report = json.loads((done.out / "report.json").read_text())
    for side in ("base", "unlearned", "retrain"):
        for key in ("ua", "ra", "ta", "mia"):
            figure = report["summary"][side][key]
            assert {"value", "n", "low", "high"} <= figure.keys()
            assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
    for key in ("gap", "floor"):
        assert {"value", "n", "low", "high"} <= report["summary"][key].keys()
    split = json.loads((done.out / "split.json").read_text())
    assert sorted(split["forget"] + split["retain"]) == split["train"]
    assert len(split["forget"]) == 14  # a tenth of 144
    base = read_tensors(done.out / "base/model.safetensors")
    after = read_tensors(done.out / "model.safetensors")
    mask = Mask.load(done.out / "mask.safetensors")
    assert base.keys() == after.keys() and mask.count == mask.size // 2
    for name, value in base.items():
        still = ~mask.dense(name) if name in mask.bits else torch.ones_like(value, dtype=torch.bool)
        assert torch.equal(value[still], after[name][still])
    assert any(not torch.equal(base[name], after[name]) for name in base)
    for name in ("report.html", "report.md", "report.csv"):
        assert (done.out / name).stat().st_size


def test_a_second_run_does_nothing_and_another_makes_the_same_bits(
    data: str, done: ClassifierRun, tmp_path: Path
) -> None:
    before = {f: f.stat().st_mtime_ns for f in done.out.rglob("*.safetensors")}
    execute(done, told=False)
    assert before == {f: f.stat().st_mtime_ns for f in done.out.rglob("*.safetensors")}
    again = make(data, tmp_path / "b", shared=tmp_path / "shared")
    execute(again, told=False)
    for file in before:
        other = again.out / file.relative_to(done.out)
        assert file.read_bytes() == other.read_bytes(), file


def test_changed_inputs_are_refused_and_redo_their_own_stages(
    data: str, done: ClassifierRun
) -> None:
    changed = replace(done, recipe=replace(done.recipe, lr=0.02))
    with pytest.raises(UserError, match=r"inputs of .* changed \(lr\).*unlearn, eval: add --over"):
        execute(changed, told=False)


def test_weights_that_are_given_are_not_trained(
    data: str, done: ClassifierRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = f"cnn@{done.out / 'base/model.safetensors'}"
    draw = Draw(file=done.out / "split.json")
    run = make_run(
        spec, data, None, done.recipe, draw=draw, training=QUICK, out=tmp_path / "r", device="cpu"
    )
    assert run.split == done.split and "other samples" not in capsys.readouterr().err
    make_run(spec, data, "random:0.1", done.recipe)
    assert "may have been trained on other samples" in capsys.readouterr().err
    assert f"taken from {done.out / 'base/model.safetensors'}" in describe(run)
    execute(run, ["train", "mask", "unlearn"], told=False)
    ours = (tmp_path / "r/model.safetensors").read_bytes()
    assert ours[200:] == (done.out / "model.safetensors").read_bytes()[200:]


def test_more_retrained_models_are_made_beside_those_that_there_are(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int | str] = []
    real = stages._trained

    def noted(shop: Any, folder: Path, *more: Any) -> Any:
        made.append(folder.name)
        return real(shop, folder, *more)

    monkeypatch.setattr(stages, "_trained", noted)
    short = {**QUICK, "epochs": 1.0}
    for count, expected in ((1, ["base", "0"]), (2, ["1"]), (1, []), (2, [])):
        made.clear()
        run = make(data, tmp_path / "run", retrains=count, training=short)
        execute(run, ("train", "retrain"), overwrite=True, told=False)
        assert made == expected
    made.clear()
    other = make(data, tmp_path / "run", "random:0.2", retrains=1, training=short)
    execute(other, ("train", "retrain"), overwrite=True, told=False)
    assert made == ["base", "0"]
    assert [f.name for f in (tmp_path / "run/retrain").iterdir()] == ["0"]


@pytest.mark.parametrize("given", [True, False])
def test_models_trained_anew_keep_what_is_frozen(
    given: bool, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "frozen_nets.py").write_text(
        "from torch import nn\n\n\ndef build(k):\n"
        "    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32))\n"
        "    return nn.Sequential(backbone.requires_grad_(False), nn.ReLU(), nn.Linear(32, k))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    spec = "module:frozen_nets:build"
    if given:
        network = import_module("frozen_nets").build(4)
        network[0][2].running_mean.fill_(0.3)
        save_file(network.state_dict(), tmp_path / "base.safetensors")
        spec += "@base.safetensors"
    run = make_run(
        spec,
        data,
        "random:0.1",
        load_recipe("retrain"),
        training={**QUICK, "epochs": 1.0},
        retrains=2,
        device="cpu",
        out=tmp_path / "run",
    )
    execute(run, told=False)
    base = read_tensors(run.out / "base/model.safetensors")
    for place in ("model", "retrain/0/model", "retrain/1/model"):
        found = read_tensors(run.out / f"{place}.safetensors")
        still = {name for name in base if torch.equal(base[name], found[name])}
        assert still == {name for name in base if name.startswith("0.")}, place
    cost = {
        row["side"]: row
        for row in json.loads((run.out / "report.json").read_text())["figures"]
        if row["key"] == "cost_samples"
    }
    assert cost["unlearned"]["value"] == 1.0
    assert (cost["base"]["reason"] == "not known of this model") == given


def test_changed_code_of_ones_own_makes_new_models(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "from torch import nn\n\n\ndef build(k):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, k))\n"
    )
    (tmp_path / "quadrant_nets.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def key() -> dict[str, Any]:
        return base_key(
            make_run("module:quadrant_nets:build", data, "random:0.1", load_recipe("salun"))
        )

    before = key()
    assert key() == before
    (tmp_path / "quadrant_nets.py").write_text(text.replace("ReLU", "Tanh"))
    after = key()
    assert {name for name in before if before[name] != after[name]} == {"code"}


def test_what_a_run_cannot_do_is_refused_before_it_trains(data: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"The seed 10{20} is too large"):
        make(data, tmp_path / "a", seed=10**20)
    with pytest.raises(UserError, match="The seed -1 is negative"):
        make(data, tmp_path / "a", seed=-1)
    run = make(data, tmp_path / "b", "random:0.5")
    scrub = load_recipe("scrub", {"batch_size": 64})
    with pytest.raises(UserError, match="SCRUB would only move away"):
        execute(replace(run, recipe=scrub), told=False)
    assert not (tmp_path / "b").exists()


def test_scrub_is_refused_by_batches(data: str) -> None:
    recipe = load_recipe("scrub", {"batch_size": 64})
    with pytest.raises(UserError, match="as many batches"):  # 71 and 73 of 144, in 64s
        make_run("cnn", data, "random:0.49", recipe)


def test_a_dry_run_counts_what_trains_anew(data: str, tmp_path: Path) -> None:
    def seconds(recipe: str) -> float:
        run = make_run("cnn", data, "random:0.1", load_recipe(recipe), training=QUICK, device="cpu")
        return dryrun._samples(run)["unlearn"]

    anew = 3.0 * QUICK["epochs"] * 130  # of 160 samples 16 are held out and 14 forgotten
    assert seconds("retrain") == anew
    short = load_recipe("salun-unseen").config.share * anew
    assert seconds("salun-unseen") == pytest.approx(
        short + load_recipe("salun-unseen").epochs * 3 * 144
    )


def test_a_dry_run_tells_the_stages_and_makes_nothing(data: str, tmp_path: Path) -> None:
    run = make(data, tmp_path / "r", "class:2")
    text = describe(run)
    assert "forget    class:2: 36, retain 108" in text
    assert "stage     retrain  3 models without what is forgotten" in text
    assert "time      about" in text
    assert not run.out.exists()


def test_a_stage_names_what_it_needs(data: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unlearn needs train.*'erase classifier run --stages tra"):
        execute(make(data, tmp_path / "r"), ["unlearn"], told=False)
    with pytest.raises(UserError, match="no stage 'forget'"):
        execute(make(data, tmp_path / "r"), ["forget"], told=False)
