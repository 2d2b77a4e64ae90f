"""Recipes by what is forgotten by seeds: every cell a run, with bases and retrained models shared.

One split for each thing to forget serves all seeds, so that the retrained models serve them too:
seeds are those of the base and of unlearning.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from erase.classifiers.data import load_data
from erase.classifiers.models import parse_model
from erase.classifiers.samples import Data
from erase.classifiers.split import Split, make_split
from erase.recipes.classifier import ClassifierRecipe
from erase.runs.classifiers.execute import execute
from erase.runs.classifiers.run import (
    ClassifierRun,
    Draw,
    check_shares,
    foreign,
    make_plan,
    make_training,
)
from erase.runs.folder import read_facts
from erase.runtime.errors import UserError, reason
from erase.runtime.files import write_json, write_text
from erase.runtime.machine import versions
from erase.runtime.notes import note

CELL = "cell.json"
KEPT = ("summary", "conclusion", "forgotten", "confidence")
"""Of a report, what a cell keeps beside the figures of its sides."""
SIDES = ("base", "unlearned", "retrain")


@dataclass(frozen=True)
class Common:
    """What all cells have alike.

    Attributes:
        model, data: specs.
        draw: how samples are drawn.
        training: settings that differ from those usual for the data.
        retrains: retrained models, shared by all cells of a split.
        device, deterministic: see ``ClassifierRun``.
    """

    model: str
    data: str
    draw: Draw
    training: Mapping[str, Any]
    retrains: int
    device: str = "auto"
    deterministic: bool = False


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of a matrix.

    Attributes:
        forget: what is forgotten, as the user named it.
        run: the run, in ``cells/RECIPE/FORGET-SEED`` of the matrix.
    """

    forget: str
    run: ClassifierRun

    @property
    def recipe(self) -> str:
        """Its recipe's name."""
        return self.run.recipe.name

    @property
    def seed(self) -> int:
        """Of the base and of unlearning."""
        return self.run.seed

    def key(self) -> str:
        """Hash of all that its figures depend on."""
        return make_plan(self.run).digests()["eval"]

    def result(self) -> dict[str, Any] | None:
        """Its figures, once it is finished with the inputs of now; None before.

        Raises:
            UserError: a damaged file.
        """
        file = self.run.out / CELL
        if not file.is_file():
            return None
        found = _read(file)
        return found if found["key"] == self.key() else None


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {**found, "key": found["key"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} can't be read ({reason(error)}): delete it to make the cell again."
        ) from error


def earlier(cells: Sequence[Cell], out: Path) -> list[dict[str, Any]]:
    """The figures of the folder's other cells, which an earlier command made.

    Raises:
        UserError: a damaged file.
    """
    planned = {cell.run.out.resolve() for cell in cells}
    files = sorted(out.glob(f"cells/*/*/{CELL}"))
    return [_read(file) for file in files if file.parent.resolve() not in planned]


def claim(out: Path, common: Common, command: str) -> None:
    """Claims a folder for a comparison or a search.

    Args:
        out: the folder.
        common: what all its cells have alike.
        command: ``compare`` or ``tune``.

    Raises:
        UserError: it holds another one, or something else.
    """
    told = {
        "command": f"classifier {command}",
        "model": common.model.partition("@")[0],
        "data": common.data.partition("@")[0],
        "draw": asdict(replace(common.draw, file=None)),
        "training": dict(common.training),
        "retrains": common.retrains,
    }
    told = json.loads(json.dumps(told))
    file = out / "matrix.json"
    if file.exists():
        before = read_facts(file)
        changed = sorted(k for k in {*told, *before} if told.get(k) != before.get(k))
        if changed:
            raise UserError(
                f"{out} holds another comparison (different {', '.join(changed)}): choose another "
                "--out."
            )
        return
    held = {p.name for p in out.iterdir() if not p.name.startswith(".")} if out.is_dir() else set()
    if held and not held & {"cells", "trials"}:
        raise UserError(f"--out {out} holds files of something else: choose another.")
    write_json(file, told)


def slug(text: str) -> str:
    """A spec as a part of a file name."""
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in text)


def make_cells(
    common: Common,
    recipes: Sequence[ClassifierRecipe],
    forgets: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    shared: Path | None = None,
) -> list[Cell]:
    """The cells of a matrix, by what is forgotten, then by seed, then by recipe.

    Args:
        common: what all have alike.
        recipes, forgets, seeds: what they differ in.
        out: of the matrix.
        shared: folder of the bases and retrained models; None for the matrix's own.

    Raises:
        UserError: bad input, or a recipe or a thing to forget that comes twice.
    """
    parse_model(common.model)
    check_shares(common.draw)
    if common.retrains < 0:
        raise UserError("--retrains is negative: give 0 or more.")
    for names in ([r.name for r in recipes], list(forgets)):
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise UserError(f"'{min(twice)}' is given twice: name each once.")
    data = load_data(common.data)
    training = make_training(data.training, common.training)
    cells = []
    for forget in forgets:
        split = _split(data, forget, common.draw)
        for seed in seeds:
            for recipe in recipes:
                place = out / "cells" / recipe.name / f"{slug(forget)}-{seed}"
                run = ClassifierRun(
                    common.model,
                    data,
                    split,
                    recipe,
                    training,
                    common.retrains,
                    seed,
                    place,
                    common.device,
                    common.deterministic,
                    shared or out / "shared",
                )
                cells.append(Cell(forget, run))
    if cells and (weights := cells[0].run.weights) is not None:
        note(f"{foreign(weights)}; all seeds start from it.")
    return cells


def _split(data: Data, forget: str, draw: Draw, seed: int = 0) -> Split:
    return make_split(
        data, forget, seed, train=draw.train, validation=draw.validation, attack=draw.attack
    )


def run_cells(cells: Sequence[Cell], overwrite: bool = False) -> list[str]:
    """Makes the cells that are not finished; one that fails does not end the others.

    Args:
        cells: of a matrix.
        overwrite: redo the stages whose inputs changed instead of failing.

    Returns:
        What failed, a sentence each.
    """
    failed = []
    for number, cell in enumerate(cells, 1):
        if cell.result() is not None:
            continue
        name = f"{cell.recipe}, {cell.forget}, seed {cell.seed}"
        print(f"[{number}/{len(cells)}] {name}", file=sys.stderr, flush=True)
        try:
            report = execute(cell.run, overwrite=overwrite, told=False)
        except (UserError, OSError) as error:
            print(f"erase: {error}", file=sys.stderr, flush=True)
            failed.append(f"{name}: {error}")
            continue
        except Exception as error:  # ours, or a library's: the other cells can do without it
            file = cell.run.out / "error.txt"
            write_text(file, traceback.format_exc())
            text = f"{type(error).__name__}: {error} (traceback in {file})"
            print(f"erase: {text}", file=sys.stderr, flush=True)
            failed.append(f"{name}: {text}")
            continue
        keep(cell, report)
    return failed


def keep(cell: Cell, report: Mapping[str, Any]) -> None:
    """Writes ``cell.json``: what the comparison needs of a report, without its models."""
    run = cell.run
    write_json(
        run.out / CELL,
        {
            "key": cell.key(),
            "recipe": cell.recipe,
            "method": run.recipe.method,
            "forget": cell.forget,
            "seed": cell.seed,
            "model": run.architecture,
            "data": run.data.spec.partition("@")[0],
            "versions": versions(),
            **{name: report[name] for name in KEPT},
            "figures": [row for row in report["figures"] if row["side"] in SIDES],
        },
    )
