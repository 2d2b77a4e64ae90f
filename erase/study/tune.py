"""``erase tune``: the same small search for every method, on concepts that no table shows.

Every recipe gets as many trials as any other and at most as many denoiser forwards a trial. Images
to train on are made once for all trials, and each trial is charged its share. The trials are a
scrambled Sobol sequence over the method's ``SPACE``, run as a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from erase.methods import load_method
from erase.prompts.concept import members
from erase.recipes.choice import recipe_for
from erase.recipes.recipe import (
    Recipe,
    as_dict,
    idle,
    keys,
    load_recipe,
    make_recipe,
    recipe_start,
    recipe_text,
)
from erase.runs.costs import forwards, image_forwards, mask_forwards, training_forwards
from erase.runs.make import concept_of, family, of_classes, own_sampling
from erase.runtime.errors import UserError
from erase.runtime.files import write_json, write_text
from erase.study.compare import make_matrix
from erase.study.matrix import USUAL, Common, Matrix

SLACK = 0.01
"""Trials whose harmonic mean is at most this much below the best are told apart by their FID."""
ALIKE = 0.05
"""Trials whose recovery is so close are as good: one image of the quick budget's 20."""
KEPT = 0.01
"""Trials under attack may lose this much of the base's IRA and CRA."""
ROUNDING = 1e-9
"""A trial that lies on a bound is within it."""
SEED = 1000
"""Of the tuning runs and of the draws: a seed that no table has."""
UNASKED = ("eval_neighbours", "eval_general", "eval_empty")
"""Counts of images that decide nothing here: none, unless asked for."""
SHIFT = 1_000_000_000
"""Added to the seeds of the evaluation images, so that no table's image decides a setting."""


def most_steps(recipe: Recipe, budget: float, images: float = 0.0) -> int:
    """Steps that the budget pays for, after the images, the mask and whatever else comes first.

    Raises:
        UserError: not even one.
    """
    before = images + mask_forwards(recipe) + training_forwards(recipe, 0)
    each = training_forwards(recipe, 1) - training_forwards(recipe, 0)
    steps = int((budget - before) / each)
    if steps < 1:
        raise UserError(
            f"--forwards {budget:g} is too few for one step of {recipe.name} and a trial's share "
            f"of the images: give at least {math.ceil(before + each)}."
        )
    return steps


def trials(
    recipe: Recipe,
    count: int,
    budget: float,
    fixed: Collection[str] = (),
    seed: int = SEED,
    start: Mapping[str, float] = MappingProxyType({}),
) -> list[Recipe]:
    """The recipes to try, named ``NAME-1`` and on.

    Args:
        recipe: the settings around which is searched.
        count: number of trials, >= 1.
        budget: most denoiser forwards a trial, with its share of the images to train on.
        fixed: settings of the space that keep the recipe's value.
        seed: of the draws.
        start: values to search around instead of the recipe's own.

    Raises:
        UserError: the budget is too small, or nothing is left to vary.
    """
    import torch

    settings, off = _unnamed(recipe), idle(as_dict(recipe))
    space = {
        key: spread
        for key, spread in load_method(recipe.method).SPACE.items()
        # A factor on 0 varies nothing, nor does what has no effect beside it.
        if key not in {*fixed, *off} and (isinstance(spread, list) or start.get(key, settings[key]))
    }
    if not space:
        why = (
            "all that vary are given: give fewer" if fixed else "it has none: choose another recipe"
        )
        raise UserError(f"No setting of {recipe.name} is left to vary; {why}.")
    if budget <= 0:
        raise UserError(f"--forwards {budget:g} is not above 0: give more.")
    dearest = _dearest(recipe, space)
    share = image_forwards(dearest) / count
    if share + forwards(dearest) > budget and "steps" not in space:
        raise UserError(
            f"{recipe.name} takes {share + forwards(dearest):.0f} denoiser forwards, its share of "
            f"the images included, more than --forwards {budget:g}: give fewer --steps."
        )
    most = most_steps(dearest, budget, share) if "steps" in space else 0
    points = torch.quasirandom.SobolEngine(len(space), scramble=True, seed=seed).draw(count)
    found = []
    for number, point in enumerate(points.tolist(), 1):
        settings = _unnamed(recipe)
        for (key, spread), u in zip(space.items(), point, strict=True):
            if isinstance(spread, list):
                settings[key] = spread[min(int(u * len(spread)), len(spread) - 1)]
                continue
            low, high = spread
            factor = low * (high / low) ** u
            if key == "steps":
                settings[key] = max(1, int(factor * most))
            else:
                settings[key] = float(f"{start.get(key, settings[key]) * factor:.2g}")
        found.append(make_recipe(f"{recipe.name}-{number}", settings))
    return found


def _overridden(recipe: Recipe, given: Mapping[str, Any]) -> Recipe:
    """The recipe with settings that are of use to a trial at least.

    Raises:
        UserError: one that is of use to none, or out of range.
    """
    space = {k: v for k, v in load_method(recipe.method).SPACE.items() if k not in given}
    checked = as_dict(make_recipe(recipe.name, _unnamed(_dearest(recipe, space)), given))
    return make_recipe(recipe.name, _unnamed(recipe) | {key: checked[key] for key in given})


def _unnamed(recipe: Recipe) -> dict[str, Any]:
    return {key: value for key, value in as_dict(recipe).items() if key != "name"}


def _dearest(recipe: Recipe, space: Mapping[str, Any]) -> Recipe:
    """The recipe with the choices of the space that cost most, so that every trial fits."""
    found = recipe
    for key in (k for k, spread in space.items() if isinstance(spread, list)):
        choices = [make_recipe(recipe.name, _unnamed(found) | {key: v}) for v in space[key]]
        found = max(choices, key=lambda one: training_forwards(one, 1))
    return found


def tuning_matrix(
    name: str,
    model: str,
    out: Path,
    *,
    count: int,
    budget: float,
    concepts: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
    common: Common = USUAL,
) -> tuple[Recipe, Matrix]:
    """The recipe that is tuned, and its trials as a matrix.

    Args:
        name: of a recipe, or a TOML file.
        model: the base.
        out: folder of the search.
        count: trials.
        budget: most denoiser forwards of a trial: mask, training and its share of the images.
        concepts: to tune on; none takes those of the family that are marked for it.
        overrides: recipe values of every trial; they are not varied.
        common: what all runs have in common; their evaluation gets seeds of its own.

    Raises:
        UserError: bad input, or no concepts are known for the model.
    """
    if count < 1:
        raise UserError(f"--trials {count} is less than 1: ask for at least one.")
    given = overrides or {}
    found = recipe_for(name, model)
    usual = own_sampling(model, found) if of_classes(model, concepts) else {}
    recipe = _overridden(load_recipe(found, usual), given)
    home = family(model)
    if not concepts and home is None:
        raise UserError("No concepts to tune on were given: add --concepts.")
    own = [c.name for c in members(home, tuning=True)] if home else []
    chosen = list(concepts) or own
    known = {concept_of(name, model).name for name in chosen if name != "all"}
    if home and ("all" in chosen or known & {c.name for c in members(home)}):
        raise UserError(
            f"Results are reported on the concepts {', '.join(chosen)}: tune on others, such as "
            f"{', '.join(own)}."
        )
    for concept in chosen:
        if common.instruments.judge is None and concept_of(concept, model).judge is None:
            raise UserError(
                f"Trials can't be ranked without a judge that recognises '{concept}': add --judge."
            )
    spared: dict[str, Any] = {key: 0 for key in UNASKED if key not in given}
    start = recipe_start(found)
    drawn = trials(recipe, count, budget, fixed=set(given), start=start)
    made = [replace(trial, **spared) for trial in drawn]
    # How many images judge the trials is no setting of the method.
    plain = load_recipe(found)
    recipe = replace(recipe, **{key: getattr(plain, key) for key in keys("eval")})
    return recipe, make_matrix(
        model, made, chosen, [SEED], out, common=replace(common, eval_shift=SHIFT)
    )


def best(scores: Sequence[Mapping[str, float | None]]) -> int:
    """Index of the best trial: the harmonic mean decides, and near its top the FID.

    Args:
        scores: ``harmonic`` in [0, 1] and ``fid`` (or None) of each trial.
    """
    top = max(float(s["harmonic"] or 0) for s in scores)
    near = [i for i, s in enumerate(scores) if float(s["harmonic"] or 0) >= top - SLACK]
    if any(scores[i]["fid"] is None for i in near):
        return max(near, key=lambda i: float(scores[i]["harmonic"] or 0))
    return min(near, key=lambda i: float(scores[i]["fid"] or 0))


def best_under_attack(
    scores: Sequence[Mapping[str, float | None]], base: Mapping[str, float | None]
) -> int:
    """Index of the best trial under attack: of those that keep IRA and CRA within ``KEPT`` of the
    base's, or else of those that keep most, and of which hardly more than the least comes back, the
    ``best``.

    Args:
        scores: ``recovery``, ``ira``, ``cra`` and what ``best`` asks of each trial, fractions.
        base: the base's ``ira`` and ``cra``.

    Raises:
        UserError: no attack has a recovery.
    """
    if any(s.get("recovery") is None for s in scores):
        raise UserError(
            "The attacks have no recovery on these concepts, so trials can't be ranked by it: give "
            "others with --attacks, or leave them out."
        )

    def lost(score: Mapping[str, float | None]) -> float:
        pairs = [(base[key], score[key]) for key in ("ira", "cra")]
        return max((b - a for b, a in pairs if a is not None and b is not None), default=0.0)

    most = max(KEPT, min(map(lost, scores))) + ROUNDING
    kept = [i for i, score in enumerate(scores) if lost(score) <= most]
    # Below the floor is no better than there: it is chance.
    back = {i: max(0.0, float(scores[i]["recovery"] or 0)) for i in kept}
    near = [i for i in kept if back[i] <= min(back.values()) + ALIKE + ROUNDING]
    return near[best([scores[i] for i in near])]


BLIND = (
    "Nothing that should stay was judged, since no retained prompt has a label: the choice rests "
    "on UA alone, which a trial that destroys everything wins. Look at FID, or give labelled "
    "prompts with --retain."
)
"""Said where a search could not see damage."""


def conclude(recipe: Recipe, matrix: Matrix, command: str) -> str:
    """Chooses among the finished trials; writes ``tune.{json,md}`` and the chosen recipe.

    Args:
        recipe: what was tuned; the chosen settings are written under its name.
        matrix: its trials.
        command: how the search is repeated, for the recipe's head.

    Returns:
        The Markdown table of the trials, and where the recipe is.

    Raises:
        UserError: a trial has no finished cell, or UA was not measured.
    """
    from erase.eval.comparison.compare import base_row

    rows, measured = _finished(matrix)
    figures = [{k: f and f["value"] for k, f in r["figures"].items()} for _, r in rows]
    if any(f["ua"] is None for f in figures):
        raise UserError("UA was not measured, so trials can't be ranked: add --judge.")
    blind = any(f["ira"] is None and f["cra"] is None for f in figures)
    if matrix.attacks is None:
        winner = best(figures)
    else:
        if left := sorted({c["recipe"] for c in measured if not c.get("recovery")}):
            raise UserError(
                f"The trials {', '.join(left)} were not attacked: fix what the messages report and "
                "tune again."
            )
        unmoved = {k: f and f["value"] for k, f in base_row(measured)["figures"].items()}
        winner = best_under_attack(figures, unmoved)
    share = max(map(image_forwards, matrix.recipes)) / len(matrix.recipes)
    table = _table([trial for trial, _ in rows], figures, winner, share, measured)
    if blind:
        table += f"\n{BLIND}\n"
    kept = {key: getattr(recipe, key) for key in keys("eval")}
    chosen = replace(rows[winner][0], name=recipe.name, **kept)
    heading = f"Chosen from {len(rows)} trials on {', '.join(matrix.concepts)} by\n{command}"
    file = matrix.out / f"{recipe.name}.toml"
    write_text(file, recipe_text(chosen, heading))
    write_text(matrix.out / "tune.md", table)
    write_json(
        matrix.out / "tune.json",
        {"command": command, "chosen": as_dict(chosen), "trials": [r for _, r in rows]},
    )
    return f"{table}\nThe chosen settings are in {file}."


def _finished(matrix: Matrix) -> tuple[list[tuple[Recipe, dict[str, Any]]], list[dict[str, Any]]]:
    """The trials of which every cell is finished, with their figures, and those cells.

    Raises:
        UserError: there are none.
    """
    from erase.eval.comparison.columns import columns_of
    from erase.eval.comparison.compare import read_cells, row
    from erase.eval.comparison.recovery import with_recovery

    whole, files = [], []
    for trial in matrix.recipes:
        own = [c for c in matrix.cells if c.recipe.name == trial.name]
        if all(c.finished() is not None for c in own):
            whole.append(trial)
            files += [c.file for c in own]
    if not whole:
        raise UserError("No trial was finished: fix what the messages report and tune again.")
    measured = with_recovery(read_cells(files), [file.parent for file in files])
    columns = columns_of(measured)
    rows = [
        (trial, row(trial.name, [c for c in measured if c["recipe"] == trial.name], columns))
        for trial in whole
    ]
    return rows, measured


def _table(
    made: Sequence[Recipe],
    figures: Sequence[Mapping[str, float | None]],
    winner: int,
    share: float,
    measured: Sequence[Mapping[str, Any]],
) -> str:
    """The trials as Markdown, ``winner`` marked; each is charged a ``share`` of the images."""
    from erase.eval.comparison.columns import columns

    varied = list(load_method(made[0].method).SPACE)
    columned = ("ua", "ira", "cra", "harmonic", "fid", "recovery")
    shown = {c.key: c.title for c in columns({"cells": measured}) if c.key in columned}
    heads = ["trial", *varied, "forwards", "with images", *shown.values()]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for number, (trial, values) in enumerate(zip(made, figures, strict=True)):
        settings = as_dict(trial)
        entries = [trial.name + (" ←" if number == winner else "")]
        entries += [str(settings[key]) for key in varied]
        entries += [f"{forwards(trial):.0f}", f"{forwards(trial) + share:.0f}"]
        for key in shown:
            value, scale = values.get(key), 1 if key == "fid" else 100
            entries.append("" if value is None else f"{scale * value:.{2 if scale == 1 else 1}f}")
        lines.append("| " + " | ".join(entries) + " |")
    return "\n".join(lines) + "\n"
