"""Pictures while training: kept, resumed, and of no effect on what is trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from erase.cli.main import main
from erase.diffusion.model import Diffusion
from erase.images.previews import Shown, read_previews
from erase.images.request import Sampler, Shot
from erase.runs.execute import execute
from erase.runs.folder import RunFolder
from erase.runs.make import make_run
from erase.runs.manner import Manner
from erase.runs.previews import plan_previews, turns
from erase.runtime.errors import UserError
from erase.runtime.files import sha256

QUICK = {
    "forget_images": 2, "retain_images": 2, "steps": 5, "batch_size": 1, "sampling_steps": 2,
    "checkpoint_every": 2, "saliency_batch": 2, "eval_forget": 1, "eval_retain": 1,
    "eval_general": 0, "eval_empty": 0, "lr": 1e-3,
}  # fmt: skip


def train(model: Path, out: Path, manner: Manner, **values: object) -> Path:
    run = make_run(str(model), "a church", "a truck", out=out, overrides={**QUICK, **values})
    execute(run, ("images", "mask", "train"), manner=manner)
    return out


@pytest.fixture(scope="module")
def watched(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tiny_folder, tmp_path_factory.mktemp("runs") / "r", Manner(preview=4))


def test_they_come_evenly_and_at_the_end() -> None:
    assert turns(4, 300) == (75, 150, 225, 300)
    assert turns(4, 5) == (1, 2, 3, 5)
    assert turns(4, 2) == (1, 2)  # no step twice
    assert (turns(4, None), turns(1, None)) == ((0, 1), (1,))


def test_a_preview_is_what_the_pipeline_makes(tiny: Diffusion, tmp_path: Path) -> None:
    sampler = Sampler("dpm++", 3, 3.0)
    prompts = {"forget": ["a church"], "retain": ["a dog", "a cat", "a hut"]}
    planned = plan_previews(tiny, [], prompts, sampler, tmp_path, times=1, steps=7, at_once=3)
    assert planned.shown == (
        Shown("a church", 0, "forget"), Shown("a church", 1, "forget"),
        Shown("a dog", 2, "retain"), Shown("a cat", 3, "retain"),
    )  # fmt: skip
    assert planned.draw(tiny, 6) == []
    made = planned.draw(tiny, 7)
    shots = [Shot(one.prompt, one.seed) for one in planned.shown]
    expected = tiny.sample(shots, sampler)
    assert np.abs(np.stack(made).astype(int) - expected).max() <= 1
    assert planned.draw(tiny, 7) == []  # they are there


def test_previews_move_no_weight_and_make_no_stage_stale(
    watched: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    found = read_previews(watched)
    assert [[step for step, _ in files] for _, files in found] == [[1, 2, 3, 5]] * 4
    assert [shown.role for shown, _ in found] == ["forget", "forget", "retain", "retain"]
    without = train(tiny_folder, tmp_path / "r", Manner())
    assert not (without / "previews").exists()
    model = "model/unet/diffusion_pytorch_model.safetensors"
    assert sha256(watched / model) == sha256(without / model)
    stages = [RunFolder.open(place).stages["train"]["digest"] for place in (watched, without)]
    assert stages[0] == stages[1]


def test_the_rest_is_drawn_after_an_interruption(
    watched: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from erase.runs.previews import Previews

    plain, out = Previews.draw, tmp_path / "r"

    def stops(self: Previews, diffusion: Diffusion, step: int) -> object:
        if step == 4:
            raise KeyboardInterrupt
        return plain(self, diffusion, step)

    monkeypatch.setattr(Previews, "draw", stops)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_folder, out, Manner(preview=4))
    # The log has every step so far, beyond the checkpoint of step 2 too.
    log = out / "train.jsonl"
    assert [json.loads(row)["step"] for row in log.read_text().splitlines()] == [1, 2, 3, 4]
    monkeypatch.undo()
    train(tiny_folder, out, Manner(preview=4))
    assert [json.loads(row)["step"] for row in log.read_text().splitlines()] == [1, 2, 3, 4, 5]
    for a, b in zip(read_previews(watched), read_previews(out), strict=True):
        assert a[0] == b[0]
        assert [sha256(file) for _, file in a[1]] == [sha256(file) for _, file in b[1]]


def test_a_closed_form_is_drawn_before_and_after(tiny_folder: Path, tmp_path: Path) -> None:
    run = make_run(
        str(tiny_folder), "a church", "a truck", "uce", out=tmp_path / "r",
        overrides={k: v for k, v in QUICK.items() if k in ("sampling_steps", "eval_retain")},
    )  # fmt: skip
    execute(run, ("images", "mask", "train"), manner=Manner(preview=4))
    [(_, files), *_] = read_previews(tmp_path / "r")
    assert [step for step, _ in files] == [0, 1]
    assert sha256(files[0][1]) != sha256(files[1][1])


def test_they_are_drawn_in_little_memory_too(tiny_folder: Path, tmp_path: Path) -> None:
    train(tiny_folder, tmp_path / "r", Manner(preview=1), low_memory=True, steps=1)
    assert len(read_previews(tmp_path / "r")) == 4


def test_a_tracker_gets_losses_and_previews(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = train(tiny_folder, tmp_path / "r", Manner(preview=1, tracker="tensorboard"))
    events = EventAccumulator(str(out / "tracking" / "r")).Reload()
    assert [e.step for e in events.Scalars("loss")] == [1, 2, 3, 4, 5]
    rows = map(json.loads, (out / "train.jsonl").read_text().splitlines())
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([r["loss"] for r in rows])
    assert [e.step for e in events.Images("previews")] == [5]  # the four side by side


def test_bad_wishes_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("erase.runs.manner.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[wandb\]'"):
        Manner(tracker="wandb")
    with pytest.raises(UserError, match="no tracker 'mlflow'"):
        Manner(tracker="mlflow")
    with pytest.raises(SystemExit) as stop:
        main(["run", "--concept", "church", "--preview", "-1"])
    assert stop.value.code == 2
    assert "--preview -1 is negative" in capsys.readouterr().err
