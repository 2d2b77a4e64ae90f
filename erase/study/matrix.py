"""The cells of a comparison: what each of them is, and whether it is finished."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.recipes.recipe import Recipe, as_dict, keys
from erase.recipes.stages import settings
from erase.runs.evaluation import deciding
from erase.runs.folder import read_facts
from erase.runs.job import slug
from erase.runs.task import AUTO, Compute, Task, make_task
from erase.runtime.errors import UserError
from erase.runtime.files import digest, identity

COMMON = keys("base", "eval")
"""Settings that make two recipes' images comparable."""


@dataclass(frozen=True)
class Matrix:
    """What is compared.

    Attributes:
        model: the base.
        recipes: resolved, in the order of the table; names are unique.
        concepts: names.
        seeds: of the runs.
        out: the folder.
        instruments: what the images are measured with.
        compute: where and how the networks are run.
        retain: prompt set to keep; None takes each concept's own.
        anchor: what the concepts become; None takes each concept's own.
        includes: models that others erased, by the name of their row; ``{concept}`` and
            ``{seed}`` in a path stand for the cell's.
        eval_shift: added to the seeds of all evaluation images.
    """

    model: str
    recipes: tuple[Recipe, ...]
    concepts: tuple[str, ...]
    seeds: tuple[int, ...]
    out: Path
    instruments: Instruments = UNNAMED
    compute: Compute = AUTO
    retain: str | None = None
    anchor: str | None = None
    includes: tuple[tuple[str, str], ...] = ()
    eval_shift: int = 0

    @property
    def names(self) -> list[str]:
        """The rows of the table."""
        return [*(r.name for r in self.recipes), *(name for name, _ in self.includes)]

    def common(self) -> dict[str, Any]:
        """What all cells share; a folder holds cells of one such setting only."""
        flat = as_dict(self.recipes[0])
        return {
            "model": self.model,
            **self.instruments.given(),
            "retain": self.retain,
            "anchor": self.anchor,
            "eval_shift": self.eval_shift,
            **{key: flat[key] for key in COMMON},
        }


@dataclass(frozen=True)
class Cell:
    """One run of the matrix.

    Attributes:
        recipe: of the run; of an included model, its name and how its images are made.
        concept, seed: of the run.
        folder: the run folder.
        included: a model that others erased, instead of a training.
        content: hash of what the names stand for: concept, anchor, prompts, judges.
        evidence: the same of what is asked and how it is judged, which the cells of all recipes
            have in common for a concept.
        called: the concept's name in what is written.
        seedless: no seed made the model, so that it stands for all.
    """

    recipe: Recipe
    concept: str
    seed: int
    folder: Path
    included: Path | None = None
    content: str = ""
    evidence: str = ""
    called: str = ""
    seedless: bool = False

    @property
    def title(self) -> str:
        """The cell in messages."""
        return f"{self.recipe.name}, {self.concept}, seed {self.seed}"

    @property
    def file(self) -> Path:
        """The cell's figures, once it is finished."""
        return self.folder / "cell.json"

    def inputs(self) -> dict[str, Any]:
        """What the cell's figures depend on, the base model aside."""
        # What is switched off does not count, so that a cell outlives new options.
        on = {k: v for k, v in as_dict(self.recipe).items() if v is not None and v is not False}
        made: dict[str, Any] = {"recipe": on}
        if self.included:
            made = {
                "recipe": settings(self.recipe, self.included),
                "included": identity(self.included),
            }
        return {**made, "concept": self.concept, "seed": self.seed, "content": self.content}


def cells(matrix: Matrix) -> list[Cell]:
    """Every cell, one concept after the other, so that its base images are made once early.

    Raises:
        UserError: an included model is not there.
    """
    found = []
    for seed in matrix.seeds:
        for concept in matrix.concepts:
            short = slug(concept)
            for recipe in matrix.recipes:
                place = matrix.out / "cells" / recipe.name / f"{short}-{seed}"
                found.append(_with_content(matrix, Cell(recipe, concept, seed, place)))
            for name, pattern in matrix.includes:
                seedless = "{seed}" not in pattern
                if seedless and seed != matrix.seeds[0]:
                    continue
                path = Path(pattern.replace("{concept}", short).replace("{seed}", str(seed)))
                if not path.exists():
                    raise UserError(f"There is no model {path}: fix --include {name}={pattern}.")
                place = matrix.out / "cells" / name / f"{short}-{seed}"
                recipe = replace(matrix.recipes[0], name=name)
                cell = Cell(recipe, concept, seed, place, path, seedless=seedless)
                found.append(_with_content(matrix, cell))
    return found


def _with_content(matrix: Matrix, cell: Cell) -> Cell:
    """The cell with the hash of what its names and files hold now."""
    task = task_of(matrix, cell)
    job = task.job
    asked = [
        [r.prompt, r.seed, r.guidance, r.size, r.role, dict(r.labels)]
        for rows in deciding(job, task.eval_shift).values()
        for r in rows
    ]
    measured = task.instruments.identities([job.concept])
    judged = [*measured.pop("judge"), *measured.values()]
    names = [asdict(job.concept), asdict(job.anchor)]
    parts = [*names, job.retain_prompts(), asked, judged]
    evidence = digest([*names, asked, judged])
    return replace(cell, content=digest(parts), evidence=evidence, called=job.name)


def task_of(matrix: Matrix, cell: Cell) -> Task:
    """The cell as a run."""
    task = make_task(
        matrix.model,
        cell.concept,
        matrix.anchor,
        cell.recipe,
        cell.seed,
        cell.folder,
        retain=matrix.retain,
        instruments=matrix.instruments,
        compute=matrix.compute,
        shared=matrix.out / "shared",
    )
    return replace(task, included=cell.included, eval_shift=matrix.eval_shift)


def finished(cell: Cell) -> dict[str, Any] | None:
    """The cell's figures, if it was finished with the same inputs."""
    if not cell.file.exists():
        return None
    found = read_facts(cell.file)
    return found if found.get("inputs") == digest(cell.inputs()) else None
