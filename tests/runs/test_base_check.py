"""Whether the base makes the concept at all, asked before training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from erase.diffusion.model import Diffusion
from erase.eval.instruments.choice import Instruments
from erase.images.request import Request
from erase.prompts.concept import load_concept
from erase.runs.base_check import check_base, choose
from erase.runs.execute import generate_sides
from erase.runs.folder import RunFolder
from erase.runs.make import make_run
from erase.runs.plan import make_plan
from erase.runs.run import Run, Target
from erase.runtime.errors import UserError
from tests.eval.instruments.test_judges import ARCH, save_judge

FLAGS = {"sampling_steps": 1, "sampling_batch": 4, "eval_retain": 1, "eval_general": 0}


def judge_that_says(folder: Path, label: str, other: str) -> Instruments:
    """A judge that recognises ``label`` in every image."""
    plain, file = folder / "plain.safetensors", folder / f"{label}.safetensors"
    save_judge(plain, (label, other))
    state = load_file(plain)
    state["fc.bias"] = torch.tensor([100.0, 0.0])
    card = {"arch": ARCH, "labels": [label, other], "size": 64, "mean": [0.5] * 3}
    save_file(state, file, {"judge": json.dumps({**card, "std": [0.25] * 3})})
    return Instruments(judge=f"torchvision:{ARCH}@{file}")


def run_of(model: Path, out: Path, instruments: Instruments, forget: int = 10) -> Run:
    values = {**FLAGS, "eval_forget": forget, "eval_empty": 0}
    run = make_run(str(model), "a [church]", "a truck", out=out, overrides=values)
    return replace(run, instruments=instruments)


def ask(run: Run, diffusion: Diffusion, anyway: bool = False) -> RunFolder:
    plan = make_plan(run, {"denoiser": "x"})
    made = RunFolder.open(run.out)
    check_base(run, diffusion, made, plan, None, anyway=anyway)
    return made


def test_the_images_are_judged_and_taken_up_later(
    tiny: Diffusion, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(tiny_folder, tmp_path / "r", judge_that_says(tmp_path, "church", "truck"))
    folder = ask(run, tiny)
    # Wilson, 10 of 10: 10 / (10 + 1.96^2) = 72.2 %
    told = "the base model shows 'church' in 10 of 10 images (72.2–100\u00a0%)."
    assert told in capsys.readouterr().err
    images = run.out / "eval" / "base" / "concept"
    made = {file: file.stat().st_mtime_ns for file in images.glob("*.png")}
    assert len(made) == 10 and not (images / "manifest.jsonl").exists()
    assert not folder.finished("base") and "digest" in folder.stages["base"]
    # Killed and called again, nothing is drawn anew, nor by the stage that goes on.
    ask(run, tiny)
    generate_sides(run, tiny, ("base",))
    assert (images / "manifest.jsonl").exists()
    assert made == {file: file.stat().st_mtime_ns for file in images.glob("*.png")}


def test_a_base_that_does_not_make_it_stops_the_run(
    tiny: Diffusion, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    never = judge_that_says(tmp_path, "truck", "church")
    # Wilson, 0 of n: 3.84 / (n + 3.84) is 27.8 % for 10 images and 19.4 % for 16.
    ask(run_of(tiny_folder, tmp_path / "few", never), tiny)
    assert "shows 'church' in 0 of 10 images (0–27.8" in capsys.readouterr().err
    run = run_of(tiny_folder, tmp_path / "many", never, forget=16)
    with pytest.raises(UserError, match=r"^The base .* 0 of 16 images \(0–19.4.*add --anyway"):
        ask(run, tiny)
    ask(run, tiny, anyway=True)
    assert "little can be said about erasing it" in capsys.readouterr().err


def test_nothing_is_drawn_where_nothing_can_tell(
    tiny: Diffusion, tiny_folder: Path, tmp_path: Path
) -> None:
    always = judge_that_says(tmp_path, "church", "truck")
    for name, instruments, forget in (("a", Instruments(), 10), ("b", always, 9)):
        folder = ask(run_of(tiny_folder, tmp_path / name, instruments, forget), tiny)
        assert not folder.path.exists()


def test_the_first_thirty_of_nudity_those_of_its_training_prompt() -> None:
    row = Request("s", 0, 0, "a photo of a nude person", 0, "forget")
    other = replace(row, prompt="a nude statue")
    rows = [replace(row, role="retain"), *[other, row] * 12]
    nudity = Target(load_concept("nudity"), load_concept("a dog"), ("nudity", "a dog"))
    church = nudity._replace(concept=load_concept("imagenette/church"))
    assert choose(nudity, rows) == [row] * 12
    assert choose(nudity, rows[:10]) == []
    assert choose(nudity, rows[:20]) == [other, row] * 9 + [other]
    assert choose(church, rows * 2) == [other, row] * 12 + [other, row] * 3
