"""``erase compare``: recipes x concepts x seeds on one base, each cell a run of its own.

OUT/matrix.json             what every cell has in common: base, evaluation, judge
OUT/shared/                 images of the base model, made once
OUT/cells/RECIPE/CONCEPT-SEED/   a run folder, its model kept as delta.safetensors, cell.json
OUT/compare.{json,csv,md,tex,html}
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from erase.diffusion.fingerprint import model_fingerprint
from erase.methods import load_method
from erase.recipes.choice import recipe_for
from erase.recipes.recipe import Recipe, as_dict, idle, load_recipe
from erase.runs.folder import read_facts
from erase.runs.make import concept_of, every_concept, of_classes, own_sampling
from erase.runs.run import slug
from erase.runtime.errors import UserError
from erase.runtime.files import write_json, write_text
from erase.study.cell import attack_cell, claimed, clear, is_attacked, run_cell, trouble
from erase.study.matrix import COMMON, USUAL, Cell, Common, Matrix, cells


def make_matrix(
    model: str,
    recipes: Sequence[str | Recipe],
    concepts: Sequence[str],
    seeds: Sequence[int],
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    common: Common = USUAL,
    includes: Sequence[str] = (),
) -> Matrix:
    """Checks what is to be compared.

    Args:
        model: ``mini``, a hub id, a diffusers folder or a single file.
        recipes: names, TOML files, or recipes that are settled already.
        concepts: names or free text; ``("all",)`` takes the objects of the model's family.
        seeds: one run each.
        out: new, or a folder of the same matrix, which may grow.
        overrides: recipe values for every recipe, e.g. ``eval_forget``.
        common: what all runs have in common.
        includes: models that others erased, each as ``NAME=PATH``.

    Raises:
        UserError: unknown names, recipes whose evaluation differs, a folder of another matrix.
    """
    given = overrides or {}
    told = of_classes(model, concepts)
    chosen = [r if isinstance(r, Recipe) else _overridden(r, model, told, given) for r in recipes]
    if not chosen or not concepts or not seeds:
        raise UserError("A comparison needs at least one recipe, one concept and one seed.")
    others = [_include(text) for text in includes]
    rows = [*(r.name for r in chosen), *(name for name, _ in others)]
    for what, values in (("recipe", rows), ("seed", seeds)):
        twice = {v for v in values if list(values).count(v) > 1}
        if twice:
            raise UserError(f"The {what} {min(twice)} was given twice: give each once.")
    used = {key for flat in map(as_dict, chosen) for key in flat.keys() - idle(flat)}
    for key in given:
        if key not in used:
            raise UserError(f"'{key}' has no effect on any of the recipes: leave it out.")
    _check_common(chosen)
    names = _full_names(concepts, model)
    for name, path in others:
        if len(names) > 1 and "{concept}" not in path:
            raise UserError(
                f"--include {name}={path} is one model for {len(names)} concepts: put {{concept}} "
                "in its path, or compare one concept."
            )
    matrix = Matrix(
        model=model,
        recipes=tuple(chosen),
        concepts=names,
        seeds=tuple(seeds),
        out=Path(out),
        common=common,
        includes=tuple(others),
    )
    matrix = replace(matrix, cells=cells(matrix))
    common.instruments.check()
    return matrix


def _overridden(name: str, model: str, told: bool, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe with those of the values that have an effect on it, and, of a model that is told
    classes, with how it is sampled from."""
    # No table prints how the neighbours fare, so none are drawn unless asked for.
    spared = {} if "eval_neighbours" in overrides else {"eval_neighbours": 0}
    found = recipe_for(name, model)
    plain = load_recipe(found)
    wanted = {**(own_sampling(model, found) if told else {}), **overrides}
    offered = {k: v for k, v in wanted.items() if k in as_dict(plain)}
    # What decides whether others have an effect comes first.
    switches = {"mask", *load_method(plain.method).NEEDS.weighed.values()}
    unused = idle(as_dict(load_recipe(found, {k: v for k, v in offered.items() if k in switches})))
    return load_recipe(found, {k: v for k, v in offered.items() if k not in unused} | spared)


def _check_common(recipes: Sequence[Recipe]) -> None:
    """Refuses recipes whose images can't be compared."""
    first = as_dict(recipes[0])
    for recipe in recipes[1:]:
        for key, value in as_dict(recipe).items():
            if key in COMMON and value != first[key]:
                flag = f"--{key.replace('_', '-')}"
                raise UserError(
                    f"The recipes {recipes[0].name} and {recipe.name} differ in {key} "
                    f"({first[key]} and {value}), so their images can't be compared: "
                    f"give one {flag} for all."
                )


def _full_names(concepts: Sequence[str], model: str) -> tuple[str, ...]:
    """The concepts by their full names, so that a cell is the same however its concept was called;
    those of the family for ``all``."""
    names = tuple(concepts)
    if "all" in names and len(names) > 1:
        raise UserError("--concepts all takes every concept: leave the others out.")
    if names == ("all",):
        names = tuple(c.name for c in every_concept(model) if c.kind in ("object", "class"))
    full = [(name, concept_of(name, model)) for name in names]
    names = tuple(found.name if found.family else name for name, found in full)
    folders = [slug(name) for name in names]
    alike = [name for name, own in zip(names, folders, strict=True) if folders.count(own) > 1]
    if len(set(alike)) == 1:
        raise UserError(f"The concept {alike[0]} is given twice: leave one out.")
    if alike:
        raise UserError(
            f"The concepts {' and '.join(alike)} would share a folder: reword one, or leave it out."
        )
    return names


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
    common = json.loads(json.dumps(matrix.facts()))
    if file.exists():
        before = read_facts(file)
        changed = sorted(k for k in {*common, *before} if common.get(k) != before.get(k))
        if changed:
            raise UserError(
                f"{matrix.out} holds another comparison (different {', '.join(changed)}): choose "
                "another --out."
            )
        return
    if matrix.out.is_dir() and any(not p.name.startswith(".") for p in matrix.out.iterdir()):
        raise UserError(f"--out {matrix.out} holds files of something else: choose another.")
    write_json(file, common)


def run_matrix(matrix: Matrix, overwrite: bool = False) -> list[str]:
    """Runs the cells that are not finished; one that fails does not end the rest.

    Returns:
        One sentence for every cell that failed.

    Raises:
        UserError: the folder holds cells that can't stand in one table with these.
    """
    from erase.eval.comparison.compare import read_cells

    open_folder(matrix)
    failed = []
    planned = {cell.folder for cell in matrix.cells}
    files = _cell_files(matrix)
    found = dict(zip([file.parent for file in files], read_cells(files), strict=True))
    base = cache(lambda: _base(matrix))
    attacks = matrix.attacks
    if found:
        kept = [facts for folder, facts in found.items() if not (overwrite and folder in planned)]
        _check_base(matrix, kept, base())
        others = {folder: facts for folder, facts in found.items() if folder not in planned}
        _check_rows(matrix, list(others.values()))
        _check_attacks(matrix, others)
    for number, cell in enumerate(matrix.cells, 1):
        if _settled(cell, base) and is_attacked(cell, attacks, overwrite):
            with suppress(UserError), claimed(cell):  # another process may be attacking it
                clear(cell)
            continue
        print(f"[{number}/{len(matrix.cells)}] {cell.title} -> {cell.folder}", flush=True)
        try:
            with claimed(cell):
                # Another process may have made it since.
                if not _settled(cell, base):
                    run_cell(cell, overwrite)
                if attacks is not None and not is_attacked(cell, attacks, overwrite):
                    attack_cell(cell, attacks)
        except (UserError, OSError) as error:
            failed.append(f"{cell.title}: {error}")
            print(f"erase: {error}", file=sys.stderr, flush=True)
        except Exception as error:  # ours, or a library's: the other cells can do without it
            file = trouble(cell)
            write_text(file, traceback.format_exc())
            text = f"{type(error).__name__}: {error} (traceback in {file})"
            failed.append(f"{cell.title}: {text}")
            print(f"erase: {text}", file=sys.stderr, flush=True)
    return failed


def _settled(cell: Cell, base: Callable[[], Mapping[str, str]]) -> bool:
    """Whether the cell's figures are there."""
    facts = cell.finished()
    return facts is not None and facts["base"] == base()


def _cell_files(matrix: Matrix) -> list[Path]:
    return sorted((matrix.out / "cells").glob("*/*/cell.json"))


def _base(matrix: Matrix) -> dict[str, str]:
    from erase.diffusion.model import Diffusion

    return model_fingerprint(Diffusion.load(matrix.model))


def _check_base(matrix: Matrix, found: Sequence[Mapping[str, Any]], base: object) -> None:
    """Refuses cells of another base."""
    if any(cell["base"] != base for cell in found):
        raise UserError(
            f"The cells in {matrix.out} were made from a different base model, also called "
            f"{matrix.model}: choose another --out."
        )


def _check_rows(matrix: Matrix, found: Sequence[Mapping[str, Any]]) -> None:
    """Refuses cells of one recipe with different settings, and those of a concept whose prompts or
    judges have changed since."""
    rows = {r.name: _switched_on(as_dict(r)) for r in matrix.recipes}
    evidence = {c.run.name: c.evidence for c in matrix.cells}
    for cell in found:
        now = evidence.get(cell["concept"])
        if now is not None and cell.get("evidence", now) != now:
            raise UserError(
                f"{matrix.out} holds a cell of {cell['recipe']} ({cell['concept']}, seed "
                f"{cell['seed']}) that was measured before the concept, its prompts or its judges "
                "changed: choose another --out, or include that recipe and seed and add "
                "--overwrite."
            )
        own = _switched_on(cell["settings"])
        row = rows.setdefault(cell["recipe"], own)
        if other := sorted(k for k in {*row, *own} if row.get(k) != own.get(k)):
            raise UserError(
                f"{matrix.out} holds a cell of {cell['recipe']} ({cell['concept']}, seed "
                f"{cell['seed']}) with a different {', '.join(other)}, and a row of the table has "
                "one setting: choose another --out, or give the recipe another name."
            )


def _check_attacks(matrix: Matrix, others: Mapping[Path, Mapping[str, Any]]) -> None:
    """Refuses attacks that could not stand beside those on cells that another command made."""
    from erase.eval.comparison.recovery import with_recovery

    found = with_recovery(list(others.values()), list(others))
    budgets = {one["recovery"]["budget"] for one in found if one.get("recovery")}
    if matrix.attacks is not None and budgets - {matrix.attacks.budget}:
        raise UserError(
            f"{matrix.out} holds cells that were attacked with --budget {min(budgets)}, and "
            f"recoveries of --budget {matrix.attacks.budget} can't be compared with theirs: choose "
            "another --out."
        )


def _switched_on(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is off, which may be newer than a cell; a file or the precision that the device
    has may differ within a row."""
    kept = {k: v for k, v in settings.items() if k not in ("file", "precision")}
    return {k: v for k, v in kept.items() if v is not None and v is not False}


def summarise(matrix: Matrix, command: str = "") -> str:
    """Writes ``compare.{json,csv,md,tex,html}`` over the finished cells.

    Args:
        matrix: what is compared.
        command: that was typed, for the page.

    Returns:
        The Markdown table, and where the page is; a sentence where no cell is finished.

    Raises:
        UserError: as ``run_matrix``.
    """
    from erase.eval.comparison.compare import compare, read_cells
    from erase.eval.comparison.recovery import with_recovery
    from erase.eval.comparison.write import write_all

    finished = {cell.folder for cell in matrix.cells if cell.finished() is not None}
    done = [cell.folder for cell in matrix.cells if cell.folder in finished]
    if not done:
        return "No cell is finished."
    # What an earlier, larger comparison left in the folder stays in its table.
    planned = {cell.folder for cell in matrix.cells}
    done += [f.parent for f in _cell_files(matrix) if f.parent not in planned]
    found = with_recovery(read_cells([folder / "cell.json" for folder in done]), done)
    _check_base(matrix, found, _base(matrix))
    _check_rows(matrix, found)
    names = list(dict.fromkeys([*matrix.names, *(cell["recipe"] for cell in found)]))
    missing = [cell.title for cell in matrix.cells if cell.folder not in finished]
    others = [
        f"{c['recipe']}, {c['concept']}, seed {c['seed']}"
        for c, folder in zip(found, done, strict=True)
        if folder not in planned
    ]
    result = compare(found, names, missing, others)
    runs = {
        (facts["recipe"], facts["concept"], facts["seed"]): folder
        for facts, folder in zip(found, done, strict=True)
    }
    return f"{write_all(matrix.out, result, runs, command)}\n{matrix.out / 'compare.html'}"
