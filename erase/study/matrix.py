"""The cells of a comparison: what each of them is, and whether it is finished."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.formats.base import list_never, open_base
from erase.methods import load_method
from erase.prompts.concept import CLASS
from erase.recipes.recipe import Recipe, as_dict, files_read, keys
from erase.runs.attacks.of_run import Attacks
from erase.runs.evaluation import deciding
from erase.runs.folder import model_of, read_facts
from erase.runs.make import make_run
from erase.runs.run import AUTO, Compute, Run, Sources, slug
from erase.runtime.errors import UserError
from erase.runtime.files import digest

COMMON = keys("base", "eval")
"""Settings that make two recipes' images comparable."""


@dataclass(frozen=True)
class Common:
    """What all runs of a matrix have in common, besides the base.

    Attributes:
        instruments: what the images are measured with.
        compute: where and how the networks are run.
        retain: prompt set to keep; None takes each concept's own.
        anchor: what the concepts become; None takes each concept's own.
        eval_shift: added to the seeds of all evaluation images.
    """

    instruments: Instruments = UNNAMED
    compute: Compute = AUTO
    retain: str | None = None
    anchor: str | None = None
    eval_shift: int = 0


USUAL = Common()


@dataclass(frozen=True)
class Cell:
    """One run of the matrix.

    Attributes:
        run: the run, of a model from elsewhere too.
        concept: as the matrix names it.
        content: hash of what the names stand for: concept, anchor, prompts, judges.
        evidence: the same of what is asked and how it is judged, which the cells of all recipes
            have in common for a concept.
        seedless: no seed made the model, so that it stands for all.
    """

    run: Run
    concept: str
    content: str
    evidence: str
    seedless: bool = False

    @property
    def recipe(self) -> Recipe:
        """The row of the table."""
        return self.run.recipe

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.run.out

    @property
    def title(self) -> str:
        """The cell in messages."""
        return f"{self.recipe.name}, {self.concept}, seed {self.run.seed}"

    @property
    def file(self) -> Path:
        """The cell's figures, once it is finished."""
        return self.folder / "cell.json"

    def inputs(self) -> dict[str, Any]:
        """What the cell's figures depend on, the base model aside."""
        settings, read = as_dict(self.recipe), files_read(self.recipe)
        if not read:
            # What is switched off does not count, so that a cell outlives new options.
            settings = {k: v for k, v in settings.items() if v is not None and v is not False}
        made = {"recipe": settings, **read, "concept": self.concept, "seed": self.run.seed}
        return {**made, "content": self.content}

    def finished(self) -> dict[str, Any] | None:
        """The cell's figures, if it was finished with the same inputs."""
        if not self.file.exists():
            return None
        found = read_facts(self.file)
        return found if found.get("inputs") == digest(self.inputs()) else None


@dataclass(frozen=True)
class Matrix:
    """What is compared; ``make_matrix`` checks it and fills in the cells.

    Attributes:
        model: the base.
        recipes: resolved, in the order of the table; names are unique.
        concepts: names.
        seeds: of the runs.
        out: the folder.
        common: what all runs have in common.
        includes: models that others erased, by the name of their row; ``{concept}`` and
            ``{seed}`` in a path stand for the cell's, and ``@0.5`` after it for a strength.
        cells: one concept after the other, so that its base images are made once early.
        attacks: made on every cell's model; None for none.
    """

    model: str
    recipes: tuple[Recipe, ...]
    concepts: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    common: Common = USUAL
    includes: tuple[tuple[str, str], ...] = ()
    cells: tuple[Cell, ...] = ()
    attacks: Attacks | None = None

    @property
    def names(self) -> list[str]:
        """The rows of the table."""
        return [*(r.name for r in self.recipes), *(name for name, _ in self.includes)]

    def facts(self) -> dict[str, Any]:
        """What all cells share; a folder holds cells of one such setting only."""
        flat, common = as_dict(self.recipes[0]), self.common
        return {
            "model": self.model,
            **common.instruments.given(),
            "retain": common.retain,
            "anchor": common.anchor,
            "eval_shift": common.eval_shift,
            **{key: flat[key] for key in COMMON},
        }


def cells(matrix: Matrix) -> tuple[Cell, ...]:
    """Every cell, with the hash of what its names and files hold now.

    Raises:
        UserError: an included model is not there, or a recipe does not suit a concept.
    """
    # What is asked and how it is judged is the same for all recipes and seeds.
    hashes: dict[str, tuple[str, str]] = {}
    found = []
    for concept, seed, recipe in _runs(matrix):
        run = _run_of(matrix, concept, seed, recipe)
        if concept not in hashes:
            hashes[concept] = _content(run)
        seedless = bool(files_read(recipe)) and "{seed}" not in dict(matrix.includes)[recipe.name]
        found.append(Cell(run, concept, *hashes[concept], seedless))
    return tuple(found)


def _runs(matrix: Matrix) -> Iterator[tuple[str, int, Recipe]]:
    """Concept, seed and recipe of every cell."""
    for seed in matrix.seeds:
        for concept in matrix.concepts:
            for recipe in matrix.recipes:
                yield concept, seed, recipe
            for name, pattern in matrix.includes:
                if "{seed}" not in pattern and seed != matrix.seeds[0]:
                    continue
                name_of = slug(concept.removeprefix(CLASS))
                text = pattern.replace("{concept}", name_of).replace("{seed}", str(seed))
                path, strength = _place(text)
                told = path.name
                known = str(path) in list_never()
                path = open_base(told).path if known else Path(model_of(str(path)))
                if not path.exists():
                    raise UserError(f"There is no model {text}: fix --include {name}={pattern}.")
                yield concept, seed, _included(matrix, name, told, path, strength)


def _place(text: str) -> tuple[Path, float]:
    """What ``PATH`` or ``PATH@STRENGTH`` stands for."""
    file, at, number = text.rpartition("@")
    if not at or Path(text).exists():
        return Path(text), 1.0
    try:
        strength = float(number)
    except ValueError:
        return Path(text), 1.0
    if not math.isfinite(strength):
        raise UserError(f"The strength in '{text}' is not finite: give a number, 0 for the base.")
    return Path(file), strength


def _included(matrix: Matrix, name: str, told: str, path: Path, strength: float) -> Recipe:
    """The recipe of a model that others erased: whose it is, and how its images are made."""
    config = load_method("included").Config(told, path, strength)
    shared = {key: getattr(matrix.recipes[0], key) for key in COMMON}
    return Recipe(name=name, method="included", config=config, mask="none", **shared)


def _run_of(matrix: Matrix, concept: str, seed: int, recipe: Recipe) -> Run:
    common = matrix.common
    run = make_run(
        matrix.model,
        concept,
        common.anchor,
        recipe,
        seed,
        matrix.out / "cells" / recipe.name / f"{slug(concept)}-{seed}",
        sources=Sources(retain=common.retain),
    )
    return replace(
        run,
        instruments=common.instruments,
        compute=common.compute,
        shared=matrix.out / "shared",
        eval_shift=common.eval_shift,
    )


def _content(run: Run) -> tuple[str, str]:
    """``content`` and ``evidence`` of a cell."""
    asked = [
        [r.prompt, r.seed, r.guidance, r.size, r.role, dict(r.labels)]
        for rows in deciding(run).values()
        for r in rows
    ]
    measured = run.instruments.identities(target.concept for target in run.targets)
    judged = [*measured.pop("judge"), *measured.values()]
    names = [concept.key() for concept in run.targets[0][:2]]
    return digest([*names, run.retain_prompts(), asked, judged]), digest([*names, asked, judged])
