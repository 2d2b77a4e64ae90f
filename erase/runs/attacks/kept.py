"""What attacks have found out already: the figures of a side, and all that they depend on."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from erase.diffusion import inversion, revival, samplers, text, tokens
from erase.eval.attacks import ATTACKS, Attack, load_attack
from erase.eval.recovery.outcome import Seen, SideName
from erase.eval.recovery.witness import Witness
from erase.runs.attacks import targets
from erase.runs.attacks.inquiry import Inquiry
from erase.runs.attacks.targets import BOUNDS, target_for
from erase.runtime.errors import UserError, reason
from erase.runtime.files import cache_folder, digest

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion


@dataclass(frozen=True, eq=False)
class Bench:
    """The models of an inquiry with their judges.

    Attributes:
        inquiry: what is attacked.
        models: by what each side attacks: ``model``, ``base``, ``floor``.
        prints: hash of each model's weights and settings.
        witness: who judges.
    """

    inquiry: Inquiry
    models: Mapping[str, Diffusion]
    prints: Mapping[str, str]
    witness: Witness

    def of(self, side: SideName) -> str:
        """Which model a side attacks."""
        if side == "ceiling":
            return "base"
        if side == "floor":
            return "floor" if "floor" in self.models else "base"
        return "model"


def known(bench: Bench, name: str, side: SideName) -> Seen | str | None:
    """What is known of a side without making it."""
    module = load_attack(name)
    key = key_of(bench, name, module, side)
    found = read(record(bench, name, side, key), key)
    if found is None and module.SETTINGS[bench.inquiry.budget] is None:
        return f"It is not part of the budget {bench.inquiry.budget}."
    return found


def blind(images: Sequence[NDArray[np.uint8]]) -> list[float]:
    """A judge for where nothing is judged."""
    return [0.0] * len(images)


def key_of(bench: Bench, name: str, module: Attack, side: SideName) -> str:
    """Hash of all that a side's figures depend on."""
    inquiry, who = bench.inquiry, bench.of(side)
    target = target_for(module, inquiry, side, blind)
    asked = [
        [[row.prompt, row.seed, row.guidance, row.size] for row in rows]
        for rows in (
            target.rows,
            target.pictured,
            target.shown,
            target.retained,
            target.elsewhere,
        )
    ]
    return digest(
        [
            name,
            side,
            bench.prints[who],
            bench.prints["base"],
            repr(module.SETTINGS[inquiry.budget]),
            inquiry.seed if side not in BOUNDS else 0,
            asked,
            list(target.paraphrases),
            target.concept.word,
            asdict(inquiry.sampler),
            inquiry.batch,
            target.concept.prompts(),
            judges(bench.witness),
            code_of(name),
        ]
    )


def judges(witness: Witness) -> Any:
    """What the judges are, wherever their files lie."""
    told = json.loads(json.dumps(dict(witness.facts), default=str))
    return _without(told, "file")


def _without(told: Any, key: str) -> Any:
    if isinstance(told, dict):
        return {k: _without(v, key) for k, v in told.items() if k != key}
    return [_without(v, key) for v in told] if isinstance(told, list) else told


@cache
def code_of(name: str) -> str:
    """Hash of what an attack does, so that one that was mended is made again; neither comments nor
    docstrings are part of it."""
    own = ATTACKS / f"{name.replace('-', '_')}.py"
    files = [own, *sorted(ATTACKS.glob("_*.py")), Path(targets.__file__)]
    files += [
        Path(module.__file__ or "") for module in (inversion, revival, samplers, text, tokens)
    ]
    return digest([_code(ast.parse(file.read_text(encoding="utf-8"))) for file in files])


def _code(node: object) -> Any:
    """A syntax tree as JSON without docstrings, and without what is empty, which versions of Python
    tell or leave out."""
    if isinstance(node, list):
        return [_code(one) for one in node if not _is_docstring(one)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = {key: value for key, value in ast.iter_fields(node) if value not in (None, [])}
    return [type(node).__name__, {key: _code(value) for key, value in fields.items()}]


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def record(bench: Bench, name: str, side: SideName, key: str) -> Path:
    """Where a side's figures are: those of bounds in the user's cache, for all models alike."""
    if side in BOUNDS:
        return cache_folder() / "bounds" / f"{name}-{side}-{key[:16]}.json"
    return bench.inquiry.out / "attacks" / name / f"{side}.json"


def holds(file: Path) -> bool:
    """Whether a side has figures there, of whatever inputs: that an attack does not apply is none.

    Raises:
        UserError: a damaged file.
    """
    return file.is_file() and _told(file)["seen"] is not None


def read(file: Path, key: str) -> Seen | str | None:
    """A side's figures, where they are finished and of these inputs."""
    if not file.is_file():
        return None
    told = _told(file)
    if told["key"] != key:
        return None
    return told["seen"] if told["reason"] is None else str(told["reason"])


def _told(file: Path) -> dict[str, Any]:
    """The record of a side, with its figures as ``Seen``."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        found, why, seen = {"key": told["key"]}, told["reason"], told["seen"]
        if seen is not None:
            curve = {int(step): hits for step, hits in seen.pop("curve").items()}
            seen = Seen(**seen, curve=curve)
        return {**found, "reason": why, "seen": seen}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file} can't be read ({reason(error)}): delete it to make it again."
        ) from error
