"""An attack is one file: dropped into a copy of the package, it is found and runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from erase.eval.attacks import load_attack
from erase.runtime.errors import UserError
from tests.dropped_in import copy_with, run_code

ECHO = '''
"""Draws the prompts as they are."""

import torch

from erase.eval.attacks import Found
from erase.images.request import Sampler, Shot

BUDGETS = {"quick": 4, "full": 8, "published": 8}


def run(model, base, rows, judge, budget, generator):
    shots = [Shot(row.prompt, row.seed) for row in rows]
    images = list(model.sample(shots, Sampler(steps=2, guidance=1.0)))
    share = sum(p >= 0.5 for p in judge(images)) / len(images)
    return Found(images, 2 * len(images), [r.prompt for r in rows], curve=[(2, share)])
'''
SCRIPT = """
import sys
import torch
from erase.diffusion.model import Diffusion
from erase.eval.attacks import Budget, list_attacks, load_attack
from erase.images.request import Request
print(list_attacks())
model = Diffusion.load(sys.argv[1], torch.device("cpu"))
rows = [Request("set", n, 0, "a church", n, "forget") for n in range(3)]
attack = load_attack("echo")
budget = Budget(attack.BUDGETS["quick"])
judge = lambda images: [0.7] * len(images)
found = attack.run(model, model, rows, judge, budget, torch.Generator())
print(len(found.images), found.images[0].shape, found.images[0].dtype, found.forwards, found.curve)
"""


def test_a_new_attack_is_one_file(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy_with(tmp_path, "eval/attacks/echo.py", ECHO)
    names, found = run_code(folder, SCRIPT, str(tiny_folder)).splitlines()
    assert names == "['echo']"
    assert found.startswith("3 (") and found.endswith(", 3) uint8 6 [(2, 1.0)]")


def test_an_unknown_attack_is_one_sentence() -> None:
    with pytest.raises(UserError, match="no attack 'prefix'"):
        load_attack("prefix")
