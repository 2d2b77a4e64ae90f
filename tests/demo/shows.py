"""A run folder without training: another tiny model stands for the erased one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from erase.diffusion.fingerprint import model_fingerprint
from erase.diffusion.model import Diffusion
from erase.eval.instruments.choice import Instruments
from erase.runs.make import make_run
from erase.runs.plan import describe
from erase.runtime.files import write_json
from tests.tiny import tiny_sd

QUICK = {"sampling_steps": 3, "eval_forget": 1, "eval_retain": 1}


def tiny_run(base: Path, out: Path, concept: str = "a church", judge: str | None = "mini") -> Path:
    """As ``erase run`` leaves it, without images and report."""
    run = make_run(str(base), concept, "a truck", "uce", out=out, overrides=QUICK)
    run = replace(run, instruments=Instruments(judge=judge))
    facts = describe(run, model_fingerprint(Diffusion.load(str(base))), "cpu")
    tiny_sd(out / "model", seed=1)
    write_json(out / "run.json", {"stages": {}, **facts})
    return out
