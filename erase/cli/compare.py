"""``erase compare`` and ``erase tune``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from erase.cli.options import attacks_of, compute, instruments, names, recipe_values
from erase.runtime.errors import UserError
from erase.runtime.words import counted

if TYPE_CHECKING:
    from erase.study.matrix import Common, Matrix

NAMED = 3
"""Failed cells that the last sentence names."""


def compare(options: Namespace, command: str) -> None:
    from erase.study.compare import make_matrix, summarise

    if not options.recipes:
        raise UserError("No recipes were given: add --recipes, e.g. --recipes salun-mini,esd-x.")
    if options.seeds < 1:
        raise UserError(f"--seeds {options.seeds} is less than 1: ask for at least one.")
    matrix = make_matrix(
        options.model,
        names(options.recipes),
        names(options.concepts) or ["all"],
        range(options.seeds),
        options.out or "runs/compare",
        recipe_values(options),
        _common(options),
        options.include or [],
    )
    matrix = _attacked(matrix, options)
    failed = _run_matrix(matrix, options)
    if failed is not None:
        print(summarise(matrix, command))
        _name_failed(failed)


def tune(options: Namespace, command: str) -> None:
    from erase.study.compare import summarise
    from erase.study.tune import conclude, tuning_matrix

    if not options.recipe:
        raise UserError("No recipe was given: add --recipe, e.g. --recipe salun-mini.")
    out = options.out or f"runs/tune-{Path(options.recipe).stem}"
    recipe, matrix = tuning_matrix(
        options.recipe,
        options.model,
        Path(out),
        count=options.trials,
        budget=options.forwards,
        concepts=names(options.concepts),
        overrides=recipe_values(options),
        common=_common(options),
    )
    matrix = _attacked(matrix, options)
    failed = _run_matrix(matrix, options)
    if failed is not None:
        text = conclude(recipe, matrix, command)
        summarise(matrix, command)
        print(f"{text}\n{matrix.out / 'compare.html'}")
        _name_failed(failed)


def _attacked(matrix: Matrix, options: Namespace) -> Matrix:
    """The matrix with the attacks that are asked for."""
    found = replace(matrix, attacks=attacks_of(options))
    if found.attacks is not None:
        found.attacks.check(len(found.concepts))
    return found


def _common(options: Namespace) -> Common:
    from erase.study.matrix import Common

    return Common(instruments(options), compute(options), options.retain, options.anchor)


def _run_matrix(matrix: Matrix, options: Namespace) -> list[str] | None:
    """Runs the cells and returns the failures, or prints what there is to do (None)."""
    from erase.runs.preflight import check_runs
    from erase.study.cell import is_attacked
    from erase.study.compare import run_matrix

    # Cells with figures keep nothing else, and are told by those.
    todo = [cell for cell in matrix.cells if not cell.file.exists()]
    firsts = {cell.concept: cell for cell in reversed(todo)}
    check_runs([cell.run for cell in firsts.values()], fetch=not options.dry_run)
    if options.dry_run:
        for cell in matrix.cells:
            state = "finished" if cell.finished() else "to do"
            if state == "finished" and not is_attacked(
                cell, matrix.attacks, bool(options.overwrite)
            ):
                state = "to attack"
            print(f"{state:9s} {cell.title}")
        return None
    return run_matrix(matrix, options.overwrite)


def _name_failed(failed: Sequence[str]) -> None:
    if failed:
        more = f"; and {len(failed) - NAMED} more, listed above" if len(failed) > NAMED else ""
        raise UserError(
            f"{counted(len(failed), 'cell')} failed; the others are done. "
            f"{'; '.join(failed[:NAMED])}{more}"
        )
