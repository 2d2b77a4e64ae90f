"""A matrix of classifiers and a search: shared models, cells that stay finished, the best trial."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from erase.classifiers.methods import load_method
from erase.cli.main import main
from erase.eval.classifiers import metrics
from erase.eval.classifiers.evidence import Case, Side
from erase.eval.figure import Figure
from erase.recipes.classifier import as_dict, load_recipe
from erase.runs.classifiers.execute import execute
from erase.runs.classifiers.run import Draw
from erase.runtime.errors import UserError
from erase.study.classifiers.compare import summarise
from erase.study.classifiers.matrix import Common, claim, make_cells, run_cells
from erase.study.classifiers.tune import conclude, make_trials, trials, tuning_forget


@pytest.fixture(scope="module")
def common(tmp_path_factory: pytest.TempPathFactory) -> Common:
    rng = np.random.default_rng(0)
    y = np.arange(80) % 4
    x = (rng.integers(0, 99, (80, 8, 8)) + 30 * y[:, None, None]).astype(np.uint8)
    file = tmp_path_factory.mktemp("data") / "toy.npz"
    np.savez(file, x_train=x, y_train=y, x_test=x[:40], y_test=y[:40])
    quick = {"epochs": 1.0, "lr": 0.1, "batch": 16}
    return Common("cnn", f"npz@{file}", Draw(validation=0.25), quick, 2, "cpu")


def test_cells_share_models_and_stay_finished_without_them(
    common: Common, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = [load_recipe("salun", {"epochs": 1.0, "batch_size": 16})]
    cells = make_cells(common, recipes, ["random:0.2"], [0, 1], tmp_path)
    assert [(c.recipe, c.seed) for c in cells] == [("salun", 0), ("salun", 1)]
    assert cells[0].run.split == cells[1].run.split
    assert run_cells(cells) == []
    # Two bases, and two retrained models for both runs.
    assert len(list((tmp_path / "shared/models").iterdir())) == 4
    text = summarise(cells, tmp_path, "erase classifier compare")
    assert "| salun" in text and "| Retrain |" in text
    assert (tmp_path / "compare.html").is_file() and (tmp_path / "compare.csv").is_file()

    elsewhere = tmp_path / "copy"
    for file in tmp_path.glob("cells/*/*/cell.json"):
        place = elsewhere / file.relative_to(tmp_path)
        place.parent.mkdir(parents=True)
        shutil.copy(file, place)
    copies = make_cells(common, recipes, ["random:0.2"], [0, 1], elsewhere)
    monkeypatch.setattr("erase.study.classifiers.matrix.execute", lambda *a, **k: 1 / 0)
    assert run_cells(copies) == []
    assert summarise(copies, elsewhere, "x").splitlines()[:-1] == text.splitlines()[:-1]
    # What an earlier command made stays in the tables.
    assert summarise(copies[:1], elsewhere, "x").splitlines()[:-1] == text.splitlines()[:-1]


def test_a_folder_is_of_one_comparison(common: Common, tmp_path: Path) -> None:
    claim(tmp_path / "one", common, "compare")
    claim(tmp_path / "one", common, "compare")
    for other, command in ((replace(common, retrains=3), "compare"), (common, "tune")):
        with pytest.raises(UserError, match="holds another comparison"):
            claim(tmp_path / "one", other, command)
    own = tmp_path / "mine" / "salun.toml"
    own.parent.mkdir()
    own.write_text('method = "salun"\n')
    with pytest.raises(UserError, match="holds files of something else"):
        claim(own.parent, common, "tune")
    # Cells that came without it.
    (own.parent / "cells").mkdir()
    claim(own.parent, common, "tune")


def test_a_search_does_not_write_over_the_recipe_it_began_with(
    common: Common, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "salun.toml"
    recipe.write_text('method = "salun"\n')
    (tmp_path / "trials").mkdir()
    argv = ["classifier", "tune", "--recipe", str(recipe), "--forget", "random:0.2", "--out"]
    argv += [str(tmp_path), "--data", common.data, "--model", "cnn", "--validation", "0.25"]
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2 and "write its result over" in capsys.readouterr().err
    assert recipe.read_text() == 'method = "salun"\n'


def test_a_matrix_measures_each_shared_model_once_and_as_a_run_alone_does(
    common: Common, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def measure(case: Case, side: Side, *more: Any) -> list[Figure]:
        looked.append(side.name)
        return metrics.measure(case, side, *more)

    monkeypatch.setattr("erase.runs.classifiers.measured.measure", measure)
    recipes = [
        load_recipe(name, {"epochs": 1.0, "batch_size": 16}) for name in ("salun", "finetune")
    ]
    cells = make_cells(common, recipes, ["random:0.2"], [0], tmp_path)
    assert run_cells(cells) == []
    assert sorted(looked) == ["base", "retrain-0", "retrain-1", "unlearned", "unlearned"]
    first, second = (execute(cell.run, ["eval"]) for cell in cells)
    alone = execute(replace(cells[1].run, shared=None, out=tmp_path / "alone"))

    def told(report: Mapping[str, Any], *sides: str) -> list[dict[str, Any]]:
        rows = [row for row in report["figures"] if row["side"] in (sides or (row["side"],))]
        return [row for row in rows if row["key"] != "cost_seconds"]

    assert told(second) == told(alone)
    assert told(first, "base", "retrain") == told(second, "base", "retrain")
    # Of models that the other cell trained, the time is its training's all the same.
    costs = [row["value"] for row in second["figures"] if row["key"] == "cost_seconds"]
    assert all(0 < cost < 100 for cost in costs if cost is not None)
    stages = [
        json.loads((cell.run.out / "run.json").read_text(encoding="utf-8"))["stages"]
        for cell in cells
    ]
    for stage in ("train", "retrain"):
        assert stages[0][stage]["trained"] == stages[1][stage]["trained"] > 0


def test_names_that_come_twice_are_refused(common: Common, tmp_path: Path) -> None:
    recipe = load_recipe("salun")
    with pytest.raises(UserError, match="'salun' is given twice"):
        make_cells(common, [recipe, recipe], ["random:0.2"], [0], tmp_path)


def test_a_base_of_somebody_elses_is_told(
    common: Common, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "base.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    theirs = replace(common, model=f"{common.model}@{file}")
    make_cells(theirs, [load_recipe("salun")], ["random:0.2"], [0, 1], tmp_path)
    make_trials(theirs, load_recipe("salun"), "random:0.2", 1, tmp_path)
    told = capsys.readouterr().err
    assert told.count("may have been trained on other samples") == 2
    assert "all seeds start from it" in told


def test_a_search_needs_samples_to_choose_on(common: Common, tmp_path: Path) -> None:
    few = replace(common, draw=replace(common.draw, validation=0.001))
    with pytest.raises(UserError, match="holds out no sample"):
        make_trials(few, load_recipe("salun"), "random:0.2", 1, tmp_path)


@pytest.mark.slow
def test_a_search_looks_at_validation_alone_and_keeps_the_best(
    common: Common, tmp_path: Path
) -> None:
    recipe = load_recipe("finetune", {"epochs": 1.0, "batch_size": 16})
    cells = make_trials(common, recipe, "class:1", 2, tmp_path)
    assert {cell.forget for cell in cells} == {"class:2"}
    assert run_cells(cells) == []
    found: list[dict[str, Any]] = [json.loads((c.run.out / "cell.json").read_text()) for c in cells]
    validation = len(cells[0].run.split.validation)
    assert {f["summary"]["unlearned"]["ta"]["n"] for f in found} == {validation}
    assert {row["metric"] for f in found for row in f["figures"]} == {"accuracy", "membership"}
    text = conclude(recipe, cells, tmp_path, "erase classifier tune")
    gaps = [f["summary"]["mean_gap"]["value"] for f in found]
    best = cells[gaps.index(min(gaps))].run.recipe
    assert f"| {best.name} ← |" in text
    assert common.retrains == 2 and "Two retrained models are" in text
    worse = next(cell for cell in cells if cell.run.recipe is not best)
    (worse.run.out / "cell.json").unlink()
    assert f"| {worse.recipe} |" in conclude(recipe, cells, tmp_path, "erase classifier tune")
    chosen = load_recipe(str(tmp_path / "finetune.toml"))
    assert {**as_dict(chosen), "name": best.name} == as_dict(best)


def test_trials_stay_in_the_space() -> None:
    recipe = load_recipe("neggrad-plus")
    space, before = load_method("neggrad-plus").SPACE, as_dict(recipe)
    found = [as_dict(trial) for trial in trials(recipe, 8)]
    assert found == [as_dict(trial) for trial in trials(recipe, 8)]
    assert {f["beta"] for f in found} <= {*space["beta"]} and len({f["lr"] for f in found}) > 4
    for trial in found:
        assert 0.095 <= trial["lr"] / before["lr"] <= 10.5
        assert trial["epochs"] == before["epochs"]
    with pytest.raises(UserError, match="retrain has no setting to vary"):
        trials(load_recipe("retrain"), 2)


def test_settings_that_were_given_are_not_searched() -> None:
    recipe = load_recipe("neggrad-plus", {"beta": 0.5})
    found = [as_dict(trial) for trial in trials(recipe, 8, fixed={"beta"})]
    assert {f["beta"] for f in found} == {0.5} and len({f["lr"] for f in found}) > 4
    with pytest.raises(UserError, match="no setting to vary beside beta, lr"):
        trials(recipe, 2, fixed={"beta", "lr"})


def test_what_is_tuned_on_is_never_what_is_compared(common: Common) -> None:
    from erase.classifiers.data import load_data

    data = load_data(common.data)
    assert tuning_forget(data, "class:3") == "class:0"
    assert tuning_forget(data, "random:0.1") == "random:0.1"  # with a seed of its own
    with pytest.raises(UserError, match="needs another forget set than 'indices:x'"):
        tuning_forget(data, "indices:x")
