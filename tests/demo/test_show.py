from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from erase.demo.show import Show, newest_run, open_show
from erase.runtime.errors import UserError


def test_the_base_comes_first_and_the_run_says_what_to_try(show: Show, run: Path) -> None:
    base, erased = show.columns
    assert base.about == "the base model"
    assert (erased.title, erased.about) == ("church", "without a church")
    assert (base.erased, erased.erased) == (frozenset(), {("object", "church")})
    assert (show.sampler.steps, show.sampler.guidance) == (3, 7.5)
    assert show.examples[:2] == ("a church", "a truck")
    a, b = (column.model.denoiser.state_dict() for column in show.columns)
    assert any((a[name] != b[name]).any() for name in a)


def test_steps_may_be_chosen(run: Path) -> None:
    with pytest.raises(UserError, match="--sampling-steps 0 is less than 1"):
        open_show([run], "cpu", 0)
    with pytest.raises(UserError, match="1000"):
        open_show([run], "cpu", 1000)


def run_at(folder: Path, when: int) -> Path:
    (folder / "model").mkdir(parents=True)
    (folder / "run.json").write_text('{"stages": {}}')
    (folder / "model" / "model_index.json").write_text("{}")
    os.utime(folder / "model" / "model_index.json", (when, when))
    return folder


def test_without_a_name_it_is_the_run_that_was_finished_last(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run below .*'erase run --concept church'"):
        newest_run(tmp_path / "runs")
    run_at(tmp_path / "b", 100)
    last = run_at(tmp_path / "all" / "church", 300)
    run_at(tmp_path / "c", 200)
    (last / "model" / "model_index.json").rename(last / "model" / "classes.json")  # told classes
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "run.json").write_text('{"stages": {}}')
    assert newest_run(tmp_path) == last


def test_what_is_no_finished_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a run folder"):
        open_show([tmp_path], "cpu")
    with pytest.raises(UserError, match="named twice"):
        open_show([run, run], "cpu")
    (tmp_path / "begun").mkdir()
    shutil.copy(run / "run.json", tmp_path / "begun")
    with pytest.raises(UserError, match="has no model yet"):
        open_show([tmp_path / "begun"], "cpu")


def test_the_base_has_to_be_the_one_that_was_erased_from(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    facts = json.loads((run / "run.json").read_text())
    facts["model"]["fingerprint"]["denoiser"] = "another"
    (other / "run.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="different bases"):
        open_show([run, other], "cpu")
    with pytest.raises(UserError, match="is no longer the model"):
        open_show([other], "cpu")
