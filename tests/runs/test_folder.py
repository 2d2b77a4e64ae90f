"""The run folder knows what is finished and what changed."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from erase.runs.folder import OUTPUTS, Plan, RunFolder
from erase.runtime.errors import UserError

ALL = tuple(OUTPUTS)


def plan(**changes: dict[str, Any]) -> Plan:
    return Plan({s: {"own": s, **changes.get(s, {})} for s in OUTPUTS})


def finish(run: RunFolder, p: Plan) -> None:
    for stage in OUTPUTS:
        with run.stage(stage, p):
            for name in OUTPUTS[stage]:
                file = run.path / name.replace("*", "x")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(stage)


def test_a_change_reaches_the_stages_after_it_and_no_other() -> None:
    before, after = plan().digests(), plan(mask={"ratio": 0.1}).digests()
    assert {s for s in OUTPUTS if before[s] != after[s]} == {"mask", "train", "erased", "eval"}


def test_changed_inputs_are_refused_by_name_and_nothing_is_lost(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    finish(run, plan(train={"alpha": 0.5}))
    again = RunFolder.open(tmp_path / "r")
    with pytest.raises(UserError, match="alpha.*train, erased, eval.*--overwrite"):
        again.reconcile(plan(train={"alpha": 0.1}), ALL, overwrite=False)
    every = [name for names in OUTPUTS.values() for name in names]
    assert all(list((tmp_path / "r").glob(name)) for name in every)


def test_one_stage_alone_says_that_the_later_ones_are_lost(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    finish(run, plan())
    with pytest.raises(UserError, match="--overwrite to remove what they made and redo mask,"):
        run.changed(plan(mask={"ratio": 0.1}), ("mask",), overwrite=False)


def test_a_run_does_not_read_what_it_would_replace(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    finish(run, plan())
    run.check_read([tmp_path / "r-2/model", tmp_path / "r/mine", Path("mini")])
    (tmp_path / "link").symlink_to(run.path / "images")
    for place in ("r/model", "r/images/forget", "r/../r/model/unet", "link"):
        with pytest.raises(UserError, match="lies in --out .* copy it elsewhere"):
            run.check_read([tmp_path / place])


def test_a_stage_keeps_what_it_was_made_with(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    run.facts.update({"device": "cuda:0", "processes": 8, "versions": {"torch": "2.4.0"}})
    finish(run, plan())
    run.facts.update({"device": "cpu", "processes": 1, "versions": {"torch": "2.14.1"}})
    run.save()
    made = RunFolder.open(tmp_path / "r").stages["train"]["made"]
    assert made == {"device": "cuda:0", "processes": 8, "versions": {"torch": "2.4.0"}}


def test_overwrite_redoes_exactly_the_affected_stages(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    finish(run, plan())
    run.reconcile(plan(train={"alpha": 0.1}), ALL, overwrite=True)
    assert [s for s in OUTPUTS if not run.finished(s)] == ["train", "erased", "eval"]
    assert (run.path / "mask.safetensors").exists()
    assert (run.path / "eval/base").exists()
    assert not (run.path / "model").exists()
    assert not (run.path / "eval/erased").exists()


def test_a_failed_stage_is_not_finished(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    with pytest.raises(RuntimeError), run.stage("images", plan()):
        raise RuntimeError
    assert not RunFolder.open(tmp_path / "r").finished("images")


def test_a_stage_whose_predecessor_is_missing_says_which_command(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    with pytest.raises(UserError, match="'erase mask'"):
        with run.stage("images", plan()):
            (run.path / "images").mkdir()
        run.reconcile(plan(), ("train",), overwrite=False)


def test_nothing_is_discarded_before_a_refusal(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    finish(run, plan())
    with pytest.raises(UserError, match="needs mask"):
        run.reconcile(plan(mask={"ratio": 0.1}), ("train",), overwrite=True)
    assert (run.path / "mask.safetensors").exists()
    assert run.finished("train")


def test_new_reports_leave_what_attacks_found(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    finish(run, plan())
    found = run.path / "concepts/x/attack/attack.json"
    found.parent.mkdir()
    found.write_text("{}")
    run.discard("eval")
    assert found.exists() and not list(run.path.glob("concepts/*/report.*"))


def test_a_stage_knows_its_size(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    finish(run, plan())
    (run.path / "images").unlink()
    (run.path / "images/retain").mkdir(parents=True)
    (run.path / "images/retain/0.png").write_bytes(b"12345")
    assert (run.size("images"), run.size("mask")) == (5, len("mask"))


def test_a_classifiers_run_is_none_of_a_diffusion_models(tmp_path: Path) -> None:
    from erase.runs.classifiers.graph import STAGES

    for name, facts, other in (("a", {"classifier": {}}, {}), ("b", {}, {"graph": STAGES})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"stages": {}, **facts}))
        with pytest.raises(UserError, match="classifier's run: choose another folder"):
            RunFolder.open(tmp_path / name, **other)
        RunFolder.open(tmp_path / name, **({} if other else {"graph": STAGES}))


def test_images_without_their_manifest_are_made_again(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    finish(run, plan())
    (run.path / "images").unlink()
    (run.path / "images/retain").mkdir(parents=True)
    (run.path / "images/retain/plan.json").write_text("{}")
    assert not run.finished("images")


def test_a_stage_whose_files_are_gone_is_redone(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    finish(run, plan())
    (run.path / "mask.safetensors").unlink()
    assert not run.finished("mask")
    assert run.finished("images")


def test_seconds_are_those_of_all_sittings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 5.0, 100.0, 107.0, 200.0, 203.0, 300.0, 301.0])
    monkeypatch.setattr("erase.runs.folder.time.perf_counter", lambda: next(now))
    run = RunFolder.open(tmp_path / "r")

    def seconds() -> float:
        told = json.loads((tmp_path / "r/run.json").read_text())["stages"]["train"]["seconds"]
        return float(told)

    with pytest.raises(RuntimeError), run.stage("train", plan()):
        raise RuntimeError
    with run.stage("train", plan()):
        pass
    assert seconds() == 12.0
    # Finished: what it takes to make it anew counts alone.
    with run.stage("train", plan()) as record:
        record["worked"] = 1.0
    assert seconds() == 3.0
    # A sitting that was killed told nothing, but what it left is known.
    with run.stage("train", plan()) as record:
        record["worked"] = 40.5
    assert seconds() == 40.5 and "worked" not in run.stages["train"]


def test_run_json_is_whole_json(tmp_path: Path) -> None:
    run = RunFolder.open(tmp_path / "r")
    finish(run, plan())
    stages = json.loads((tmp_path / "r/run.json").read_text())["stages"]
    assert list(stages) == list(OUTPUTS)
    assert all(s["finished"] and s["peak_memory_mb"] > 0 for s in stages.values())


def test_foreign_folders_and_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        RunFolder.open(tmp_path / "f")
    with pytest.raises(UserError, match="not from a run"):
        RunFolder.open(tmp_path)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "run.json").write_text("{")
    with pytest.raises(UserError, match="can't be read"):
        RunFolder.open(tmp_path / "d")


def _hold(path: Path, held: Any, release: Any) -> None:
    with RunFolder(path).lock():
        held.set()
        release.wait(30)


def test_two_processes_cannot_write_one_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "r", held, release))
    other.start()
    try:
        assert held.wait(60)
        with pytest.raises(UserError, match="Another process"), RunFolder(tmp_path / "r").lock():
            pass
    finally:
        release.set()
        other.join()
