"""A method is one file: dropped into a copy of the package, every command takes it."""

from __future__ import annotations

import json
from pathlib import Path

from erase.formats.base import open_base
from tests.dropped_in import copy_with, run

DRIFT = '''
"""Moves every masked weight towards zero."""

from dataclasses import dataclass, field

from erase.methods import Needs

NEEDS = Needs(images=(), anchor=False)
SPACE = {"lr": (0.1, 10.0), "pull": [1.0, 2.0]}


@dataclass(frozen=True)
class Config:
    pull: float = field(default=1.0, metadata={"help": "weight of the loss", "above": 0.0})


def forwards(config, steps, batch):
    return 0.0


def erase(diffusion, data, config, fit):
    def step(index, part):
        sums = [p.square().sum() for p in diffusion.denoiser.parameters() if p.requires_grad]
        return {"loss": config.pull * sum(sums)}

    fit(diffusion.denoiser, step)
'''


def test_a_new_method_is_one_file(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy_with(tmp_path, "methods/drift.py", DRIFT)
    small = "--sampling-steps 2 --eval-forget 1 --eval-retain 1 --device cpu".split()
    rest = "--eval-neighbours 0 --eval-general 0 --eval-empty 0".split()
    told = ["--model", str(tiny_folder), *small]
    made = ["--method", "drift", "--concept", "a church", "--mask", "none", "--steps", "2", *rest]
    search = ["--recipe", "drift", "--concepts", "a church", "--trials", "1", "--mask", "none"]
    clip = ["--judge", "open_clip:mini@" + str(folder / "erase/mini/weights/judges/clip")]
    said = run(
        folder,
        ["list", "methods"],
        ["run", *told, *made, "--pull", "2", "--out", "run", "--dry-run"],
        ["run", *told, *made, "--pull", "2", "--out", "run"],
        ["tune", *told, *search, "--anchor", "a truck", "--steps", "2", *clip, "--out", "tune"],
    )
    assert "drift" in said and "Moves every masked weight towards zero" in said
    assert "recipe    pull = 2.0" in said
    facts = json.loads((folder / "run/run.json").read_text())
    assert facts["recipe"]["method"] == facts["recipe"]["name"] == "drift"
    before = open_base(str(tiny_folder)).denoiser_state()
    after = open_base(str(folder / "run/model")).denoiser_state()
    sizes = [sum(float(v.square().sum()) for v in state.values()) for state in (before, after)]
    assert sizes[1] < sizes[0]
    tuned = (folder / "tune/tune.md").read_text()
    # Free text retains captions without labels.
    assert "| drift-1 ← |" in tuned and "rests on UA alone" in tuned
