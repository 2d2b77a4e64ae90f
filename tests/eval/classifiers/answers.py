"""What models may answer, and what a run tells of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from erase.eval.classifiers.evidence import Case, Side
from erase.eval.classifiers.report.schema import Facts

FACTS = Facts(
    run={
        "model": "cnn",
        "data": "npz@drawn.npz",
        "forget": "random:0.2",
        "recipe": "salun",
        "method": "salun",
        "seed": 0,
    },
    recipe={"lr": 0.01, "epochs": 10.0},
    split={"seed": 0, "sha256": "0" * 64},
    device="cpu",
    commands=("erase classifier run --recipe salun",),
    seconds={"unlearn": 1.5},
)


@dataclass(frozen=True, eq=False)
class Models:
    """What a report is made of."""

    case: Case
    base: Side
    unlearned: Side
    retrained: tuple[Side, ...]


def facts(kind: str) -> Facts:
    """As a run would tell them."""
    spec = {"random": "random:0.2", "class": "class:star"}[kind]
    return replace(FACTS, run={**FACTS.run, "forget": spec})


def saying(**shares: tuple[int, int, int, int]) -> Models:
    """Models of 100 samples a part that get so many wrong of forget, retain and test, and that
    are unsure of as many samples to forget as the last number says."""
    sides = {}
    for name, (ua, ra, ta, unsure) in shares.items():
        logits = {}
        for part, wrong in (("forget", ua), ("retain", ra), ("test", ta)):
            logits[part] = np.tile(np.array([4.0, 0.0], np.float32), (100, 1))
            logits[part][:wrong] = [0.0, 4.0]
        logits["forget"][:unsure] = [0.0, 4.0]
        sides[name] = Side(name, logits)  # type: ignore[arg-type]
    labels = {part: np.zeros(100, np.int64) for part in ("forget", "retain", "test")}
    base, unlearned, *others = sides.values()
    return Models(Case("random", ("a", "b"), labels), base, unlearned, tuple(others))  # type: ignore[arg-type]
