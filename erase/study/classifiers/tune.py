"""``erase classifier tune``: a small search for every recipe alike, away from what is reported.

Scored by the average gap to models that were retrained for another forget set and seed, with the
validation samples in place of the test's: no figure that a comparison prints decides a setting.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from erase.classifiers.data import load_data
from erase.classifiers.methods import load_method
from erase.classifiers.samples import Data
from erase.classifiers.split import make_split
from erase.recipes.classifier import ClassifierRecipe, as_dict, flags, make_recipe
from erase.runs.classifiers.run import ClassifierRun, check_shares, foreign, make_training
from erase.runtime.errors import UserError
from erase.runtime.files import write_json, write_text
from erase.runtime.notes import note
from erase.study.classifiers.matrix import Cell, Common, slug

SEED = 1000
"""Of the forget set, the base and the search, which no comparison uses."""


def tuning_forget(data: Data, forget: str) -> str:
    """Another thing to forget of the same kind: the next class, or the same spec, whose draw the
    seed changes.

    Raises:
        UserError: one that has no other, a list of samples or a cell.
    """
    kind, _, what = forget.partition(":")
    if kind == "class":
        if what not in data.classes:
            make_split(data, forget)  # says so
        return f"class:{data.classes[(data.classes.index(what) + 1) % len(data.classes)]}"
    if kind in ("random", "flipped"):
        return forget
    raise UserError(
        f"A search needs another forget set than '{forget}': tune on random:SHARE, class:NAME or "
        "flipped:SHARE, and use what it finds."
    )


def trials(
    recipe: ClassifierRecipe, count: int, seed: int = SEED, fixed: Collection[str] = ()
) -> list[ClassifierRecipe]:
    """The recipes to try, named ``NAME-1`` and on: a scrambled Sobol sequence over ``SPACE``.

    Args:
        recipe: the settings around which is searched; its epochs, and so its cost, stay where the
            space does not vary them.
        count: number of trials, >= 1.
        seed: of the draws.
        fixed: settings that are not varied.

    Raises:
        UserError: nothing to vary, or fewer than one trial.
    """
    import torch

    space = _space(recipe, fixed)
    if not space:
        kept = f" beside {', '.join(sorted(fixed))}" if fixed else ""
        raise UserError(f"{recipe.method} has no setting to vary{kept}: leave it out.")
    if count < 1:
        raise UserError(f"--trials is {count}: give at least 1.")
    types = {flag.name: flag for flag in flags(recipe.method)}
    points = torch.quasirandom.SobolEngine(len(space), scramble=True, seed=seed).draw(count)
    found = []
    for number, point in enumerate(points.tolist(), 1):
        settings = {k: v for k, v in as_dict(recipe).items() if k != "name"}
        for (key, spread), u in zip(space.items(), point, strict=True):
            if isinstance(spread, list):
                settings[key] = spread[min(int(u * len(spread)), len(spread) - 1)]
                continue
            low, high = spread
            value = float(f"{settings[key] * low * (high / low) ** u:.2g}")
            most = types[key].metadata.get("max", value)
            settings[key] = min(value, most)
        found.append(make_recipe(f"{recipe.name}-{number}", settings))
    return found


def make_trials(
    common: Common,
    recipe: ClassifierRecipe,
    forget: str,
    count: int,
    out: Path,
    shared: Path | None = None,
    fixed: Collection[str] = (),
) -> list[Cell]:
    """A run for each trial, all of one split, base and set of retrained models.

    Args:
        common: what all have alike.
        recipe: searched around.
        forget: what the comparison forgets; another one of its kind is tuned on.
        count: number of trials.
        out: of the search.
        shared: folder of the base and the retrained models; None for the search's own.
        fixed: settings that are not varied.
    """
    data = load_data(common.data)
    other, draw = tuning_forget(data, forget), common.draw
    check_shares(draw)
    if common.retrains < 1:
        raise UserError(
            "Settings are chosen by their distance from a retrained model: give --retrains 1 or "
            "more."
        )
    if draw.validation == 0:
        raise UserError("Settings are chosen on validation samples: give --validation above 0.")
    split = make_split(data, other, SEED, train=draw.train, validation=draw.validation)
    if not split.validation:
        raise UserError(
            f"--validation {draw.validation:g} holds out no sample of these classes: give more."
        )
    training = make_training(data.training, common.training)
    cells = [
        Cell(
            other,
            ClassifierRun(
                common.model,
                data,
                split,
                trial,
                training,
                common.retrains,
                SEED,
                out / "trials" / trial.name,
                common.device,
                common.deterministic,
                shared or out / "shared",
                judged="validation",
            ),
        )
        for trial in trials(recipe, count, fixed=fixed)
    ]
    if (weights := cells[0].run.weights) is not None:
        note(f"{foreign(weights)}.")
    return cells


def _space(recipe: ClassifierRecipe, fixed: Collection[str]) -> dict[str, Any]:
    """What is varied, and how far."""
    space = load_method(recipe.method).SPACE
    return {key: spread for key, spread in space.items() if key not in fixed}


def conclude(
    recipe: ClassifierRecipe,
    cells: Sequence[Cell],
    out: Path,
    command: str,
    fixed: Collection[str] = (),
) -> str:
    """Writes ``tune.md``, ``tune.json`` and the best trial as ``NAME.toml``.

    Returns:
        The table and where the chosen settings are.

    Raises:
        UserError: no trial is finished.
    """
    rows = [(cell, found) for cell in cells if (found := cell.result()) is not None]
    if not rows:
        raise UserError("No trial was finished: fix what the messages report and tune again.")

    def gap(found: dict[str, Any]) -> float:
        return float(found["summary"]["mean_gap"]["value"])

    winner = min(range(len(rows)), key=lambda number: gap(rows[number][1]))
    varied = list(_space(recipe, fixed))
    heads = ["trial", *varied, "UA %", "RA %", "VA %", "MIA %", "gap, points"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for number, (cell, found) in enumerate(rows):
        settings, own = as_dict(cell.run.recipe), found["summary"]["unlearned"]
        entries = [cell.recipe + (" ←" if number == winner else "")]
        entries += [str(settings[key]) for key in varied]
        entries += [f"{100 * own[key]['value']:.1f}" for key in ("ua", "ra", "ta", "mia")]
        entries.append(f"{100 * gap(found):.2f}")
        lines.append("| " + " | ".join(entries) + " |")
    finished = {cell.recipe for cell, _ in rows}
    for cell in cells:
        if cell.recipe not in finished:
            settings = as_dict(cell.run.recipe)
            entries = [cell.recipe, *(str(settings[key]) for key in varied)]
            lines.append("| " + " | ".join([*entries, "not finished", *[""] * 4]) + " |")
    floor, chosen = rows[winner][1]["summary"]["floor"], rows[winner][0].run.recipe
    table = "\n".join(lines) + "\n"
    apart = floor["value"]
    lowest = "How far two retrained models are apart is not known, with one of them.\n"
    if apart is not None:
        lowest = f"Two retrained models are {100 * apart:.2f} points apart on average.\n"
    file = out / f"{recipe.name}.toml"
    tried = f"{len(rows)} finished trials of {len(cells)}"
    head = f"# Chosen from {tried} on {rows[0][0].forget}, seed {SEED}, by\n# {command}\n"
    values = as_dict(replace(chosen, name=recipe.name))
    text = "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items() if k != "name")
    write_text(file, head + text)
    write_text(out / "tune.md", f"{table}\n{lowest}")
    told = [{**as_dict(cell.run.recipe), **found["summary"]} for cell, found in rows]
    write_json(out / "tune.json", {"command": command, "chosen": values, "trials": told})
    return f"{table}\n{lowest}\nThe chosen settings are in {file}."


def default_out(recipe: str, forget: str) -> Path:
    """Where a search goes that says nothing else."""
    return Path("runs") / f"tune-{slug(recipe)}-{slug(forget)}"
