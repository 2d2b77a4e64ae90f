"""``erase compare``: recipes x concepts x seeds on one base, each cell a run of its own.

OUT/matrix.json             what every cell has in common: base, evaluation, judge
OUT/shared/                 images of the base model, made once
OUT/cells/RECIPE/CONCEPT-SEED/   a run folder, its model kept as delta.safetensors, cell.json
OUT/compare.{json,csv,md,tex,html}
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from erase.cells import COMMON, Cell, Matrix, cells, finished, task_of
from erase.commands import execute
from erase.concepts import load_concept, members
from erase.errors import UserError
from erase.files import digest, write_json
from erase.job import slug
from erase.recipe import Recipe, as_dict, idle, load_recipe, recipe_for
from erase.runs import read_facts
from erase.specs import UNNAMED, Instruments
from erase.task import AUTO, Compute, family


def make_matrix(
    model: str,
    recipes: Sequence[str | Recipe],
    concepts: Sequence[str],
    seeds: Sequence[int],
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    instruments: Instruments = UNNAMED,
    compute: Compute = AUTO,
    retain: str | None = None,
    anchor: str | None = None,
    includes: Sequence[str] = (),
    eval_shift: int = 0,
) -> Matrix:
    """Checks what is to be compared.

    Args:
        model: ``mini``, a hub id, a diffusers folder or a single file.
        recipes: names, TOML files, or recipes that are settled already.
        concepts: names or free text; ``("all",)`` takes the objects of the model's family.
        seeds: one run each.
        out: new, or a folder of the same matrix, which may grow.
        overrides: recipe values for every recipe, e.g. ``eval_forget``.
        instruments, compute, retain, anchor: as for a run.
        includes: models that others erased, each as ``NAME=PATH``.
        eval_shift: added to the seeds of all evaluation images.

    Raises:
        UserError: unknown names, recipes whose evaluation differs, a folder of another matrix.
    """
    chosen = []
    for name in recipes:
        if isinstance(name, Recipe):
            chosen.append(name)
            continue
        found = recipe_for(name, model)
        plain = load_recipe(found)
        mask = str((overrides or {}).get("mask", plain.mask))
        known = as_dict(plain).keys() - idle(mask)
        offered = {k: v for k, v in (overrides or {}).items() if k in known}
        chosen.append(load_recipe(found, offered))
    if not chosen or not concepts or not seeds:
        raise UserError("A comparison needs at least one recipe, one concept and one seed.")
    others = [_include(text) for text in includes]
    rows = [*(r.name for r in chosen), *(name for name, _ in others)]
    for what, values in (("recipe", rows), ("seed", seeds)):
        twice = {v for v in values if list(values).count(v) > 1}
        if twice:
            raise UserError(f"The {what} {min(twice)} is named twice: name each once.")
    used = {key for recipe in chosen for key in as_dict(recipe).keys() - idle(recipe.mask)}
    for key in overrides or {}:
        if key not in used:
            raise UserError(f"'{key}' is a setting of none of the recipes: leave it out.")
    first = as_dict(chosen[0])
    for recipe in chosen[1:]:
        for key, value in as_dict(recipe).items():
            if key in COMMON and value != first[key]:
                flag = f"--{key.replace('_', '-')}"
                raise UserError(
                    f"The recipes {chosen[0].name} and {recipe.name} differ in {key} "
                    f"({first[key]} and {value}), so that their images can't be compared: "
                    f"give one {flag} for all."
                )
    names = tuple(concepts)
    if names == ("all",):
        home = family(model)
        if home is None:
            raise UserError("--concepts all needs a family of concepts: it works with mini.")
        names = tuple(c.name for c in members(home) if c.kind == "object")
    # By their full names, so that a cell is the same however its concept was called.
    full = [(name, load_concept(name, family(model))) for name in names]
    names = tuple(found.name if found.family else name for name, found in full)
    folders = [slug(name) for name in names]
    alike = [name for name, own in zip(names, folders, strict=True) if folders.count(own) > 1]
    if alike:
        raise UserError(
            f"The concepts {' and '.join(alike)} share a folder: name each once, in other words."
        )
    for name, path in others:
        if len(names) > 1 and "{concept}" not in path:
            raise UserError(
                f"--include {name}={path} is one model for {len(names)} concepts: put {{concept}} "
                "into its path, or compare one concept."
            )
    matrix = Matrix(
        model=model,
        recipes=tuple(chosen),
        concepts=names,
        seeds=tuple(seeds),
        out=Path(out),
        instruments=instruments,
        compute=compute,
        retain=retain,
        anchor=anchor,
        includes=tuple(others),
        eval_shift=eval_shift,
    )
    for cell in cells(matrix):
        task_of(matrix, cell)
    instruments.check()
    return matrix


def _include(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not equals or not path or slug(name) != name:
        raise UserError(
            f"--include {text} is not NAME=PATH, with a name of lower-case letters, digits and "
            "hyphens: give one, e.g. --include their-esd=erased.safetensors."
        )
    return name, path


def open_folder(matrix: Matrix) -> None:
    """Claims the folder for the matrix.

    Raises:
        UserError: it holds another matrix, or something else.
    """
    file = matrix.out / "matrix.json"
    common = json.loads(json.dumps(matrix.common()))
    if file.exists():
        before = read_facts(file)
        changed = sorted(k for k in {*common, *before} if common.get(k) != before.get(k))
        if changed:
            raise UserError(
                f"{matrix.out} holds another matrix (other {', '.join(changed)}): choose another "
                "--out."
            )
        return
    if matrix.out.is_dir() and any(matrix.out.iterdir()):
        raise UserError(f"--out {matrix.out} holds files that are not a matrix's: choose another.")
    write_json(file, common)


def run_matrix(matrix: Matrix, overwrite: bool = False) -> list[str]:
    """Runs the cells that are not finished; one that fails does not end the rest.

    Returns:
        One sentence for every cell that failed.
    """
    open_folder(matrix)
    failed = []
    todo = cells(matrix)
    for number, cell in enumerate(todo, 1):
        if finished(cell) is not None:
            continue
        print(f"[{number}/{len(todo)}] {cell.title} -> {cell.folder}", flush=True)
        try:
            run_cell(matrix, cell, overwrite)
        except (UserError, OSError) as error:
            failed.append(f"{cell.title}: {error}")
            print(f"erase: {error}", file=sys.stderr, flush=True)
    return failed


def run_cell(matrix: Matrix, cell: Cell, overwrite: bool) -> None:
    """Runs one cell, writes ``cell.json`` and keeps the model as a delta."""
    from erase.checkpoint import open_base
    from erase.delta import save_delta
    from erase.eval.compare import cell_facts
    from erase.layout import read_state
    from erase.weights import fingerprint_state

    task = task_of(matrix, cell)
    if cell.file.exists() and not overwrite:
        raise UserError(
            f"{cell.file} was made with other settings: add --overwrite or choose another --out."
        )
    cell.file.unlink(missing_ok=True)
    execute(task, ("images", "mask", "train", "generate", "eval"), overwrite)
    before = open_base(matrix.model).denoiser_state()
    after = read_state(cell.folder / "model", "unet")
    delta = cell.folder / "delta.safetensors"
    moved = 0
    if fingerprint_state(after) != fingerprint_state(before):
        moved = save_delta(delta, before, after)
    found = cell_facts(cell.folder)
    found |= {
        "inputs": digest(cell.inputs()),
        "weights": sum(v.numel() for v in before.values()),
        "moved": moved,
        "bytes": delta.stat().st_size if moved else 0,
    }
    write_json(cell.file, found)
    # The delta holds the same model; the training images have served.
    for name in ("model", "images", "checkpoints"):
        shutil.rmtree(cell.folder / name, ignore_errors=True)


def summarise(matrix: Matrix, command: str = "") -> str:
    """Writes ``compare.{json,csv,md,tex,html}`` over the finished cells.

    Args:
        matrix: what is compared.
        command: that was typed, for the page.

    Returns:
        The Markdown table; a sentence where no cell is finished.

    Raises:
        UserError: the cells are of different base models.
    """
    from erase.eval.compare import compare, read_cells, write_all

    own = cells(matrix)
    done = [cell.folder for cell in own if finished(cell) is not None]
    if not done:
        return "No cell is finished."
    # What an earlier, larger comparison left in the folder stays in its table.
    planned = {cell.folder for cell in own}
    others = sorted(f.parent for f in (matrix.out / "cells").glob("*/*/cell.json"))
    done += [folder for folder in others if folder not in planned]
    found = read_cells([folder / "cell.json" for folder in done])
    if len({digest(cell["base"]) for cell in found}) > 1:
        raise UserError(
            f"The cells of {matrix.out} were made from different base models, though all were "
            f"called {matrix.model}: compare in another --out."
        )
    names = list(dict.fromkeys([*matrix.names, *(cell["recipe"] for cell in found)]))
    missing = [cell.title for cell in own if finished(cell) is None]
    result = compare(found, names, missing)
    runs = {
        (facts["recipe"], facts["concept"], facts["seed"]): folder
        for facts, folder in zip(found, done, strict=True)
    }
    return write_all(matrix.out, result, runs, command)
