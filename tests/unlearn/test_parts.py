"""A batch in parts: the same step in less memory."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from erase.cli.main import main
from erase.diffusion.model import Diffusion
from erase.methods import load_method
from erase.prompts.groups import Role
from erase.unlearn.parts import shares
from tests.methods.data import fit_for, make_data, weights
from tests.methods.test_others import quick

METHODS: dict[str, tuple[Role, ...]] = {
    "salun": ("forget", "retain"),
    "gradient_ascent": ("forget",),
    "concept_ablation": ("anchor",),
    "esd": (),
    "adv_unlearn": (),
}


def test_processes_and_turns_share_every_row_out() -> None:
    rows = list(range(12))
    assert [rows[part] for part in shares(1)] == [rows]
    taken = [[rows[part] for part in shares(3, index, 2)] for index in range(2)]
    assert taken == [[[0, 6], [1, 7], [2, 8]], [[3, 9], [4, 10], [5, 11]]]


@pytest.mark.parametrize("name", list(METHODS))
def test_a_step_in_parts_ends_as_the_whole_one(tiny: Diffusion, name: str, tmp_path: Path) -> None:
    method = load_method(name)
    data = make_data(tiny, *METHODS[name], batch_size=6)
    part = method.NEEDS.part
    start = copy.deepcopy(tiny.part(part).state_dict())
    before = weights(tiny, part)
    ends, losses = [], []
    for turns in (1, 3):
        tiny.part(part).load_state_dict(start)
        folder = tmp_path / str(turns)
        settings: dict[str, Any] = {"optimizer": "sgd", "lr": 0.05}
        fit, _ = fit_for(tiny, method, "xattn", folder, **settings)
        method.erase(tiny, data, quick(name), replace(fit, parts=shares(turns)))
        ends.append(weights(tiny, part))
        rows = (folder / "train.jsonl").read_text().splitlines()
        losses.append([json.loads(row)["loss"] for row in rows])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert any(not torch.equal(ends[0][n], before[n]) for n in before)
    for n in before:
        torch.testing.assert_close(ends[0][n], ends[1][n], rtol=1e-4, atol=1e-6, msg=n)


@pytest.mark.parametrize(
    ("recipe", "size", "sentence"),
    [
        ("salun-sd", "3", "--micro-batch 3 does not divide the 8 images of a step"),
        ("fmn", "2", "computed over the whole batch"),
    ],
)
def test_parts_that_do_not_work_out_are_refused(
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
    size: str,
    sentence: str,
) -> None:
    args = ["run", "--model", str(tiny_folder), "--concept", "a church", "--anchor", "a truck"]
    args += ["--recipe", recipe, "--batch-size", "8", "--micro-batch", size]
    with pytest.raises(SystemExit) as stop:
        main([*args, "--out", str(tmp_path / "r")])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
