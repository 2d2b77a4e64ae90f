"""An attack is one file: dropped into a copy of the package, it is found and runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from erase.eval.attacks import load_attack
from erase.runtime.errors import UserError
from tests.dropped_in import copy_with, run_code

ECHO = '''
"""Draws the prompts as they are."""

from erase.eval.attacks import Found
from erase.images.request import Shot

TEXT = True
SETTINGS = {"quick": 1, "full": 2, "published": 2}


def run(model, base, target, settings, random, generator):
    shots = [Shot(row.prompt, row.seed) for row in target.rows]
    images = list(model.sample(shots, target.sampler))
    return Found(images, settings * len(images), prompts=[r.prompt for r in target.rows])
'''
SCRIPT = """
import sys
import torch
from erase.diffusion.model import Diffusion
from erase.eval.attacks import Target, list_attacks, load_attack
from erase.images.request import Request, Sampler
from erase.prompts.concept import Concept
print("echo" in list_attacks())
model = Diffusion.load(sys.argv[1], torch.device("cpu"))
rows = [Request("set", n, 0, "a church", n, "forget") for n in range(3)]
attack = load_attack("echo")
concept = Concept("a church", "text", "church")
sampler = Sampler(steps=2, guidance=1.0)
judge = lambda images: [0.7] * len(images)
target = Target(concept, rows, rows, rows, rows, rows, (), sampler, judge)
found = attack.run(model, model, target, attack.SETTINGS["quick"], False, torch.Generator())
print(len(found.images), found.images[0].shape, found.images[0].dtype, found.forwards)
"""


def test_a_new_attack_is_one_file(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copy_with(tmp_path, "eval/attacks/echo.py", ECHO)
    names, found = run_code(folder, SCRIPT, str(tiny_folder)).splitlines()
    assert names == "True"
    assert found.startswith("3 (") and found.endswith(", 3) uint8 3")


def test_an_unknown_attack_is_one_sentence() -> None:
    with pytest.raises(UserError, match="no attack 'nosuch'"):
        load_attack("nosuch")
