"""What is shown side by side: the base and each run's erased model, opened once."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from erase.demo.judging import Jury, open_jury
from erase.diffusion.fingerprint import model_fingerprint
from erase.diffusion.model import Diffusion
from erase.eval.pages.html import spread
from erase.formats.folder import index_of
from erase.runs.combine import check_bases
from erase.runs.folder import RECORD, read_facts
from erase.runs.make import resume
from erase.runtime.devices import accelerator, for_sampling, memory_told
from erase.runtime.errors import UserError
from erase.runtime.notes import note
from erase.runtime.places import near, short

if TYPE_CHECKING:
    from erase.images.request import Sampler
    from erase.runs.run import Run

MODEL = "model"
"""Folder of a run's model, which is there when it is finished."""
EXAMPLES = 2
"""Retained prompts that are offered, beside a run's concept and anchor."""


@dataclass(frozen=True)
class Column:
    """A model among those shown.

    Attributes:
        title: what it is called.
        about: what it is, in a few words.
        model: opened.
        erased: axis and label of what it should not show; none of the base's.
    """

    title: str
    about: str
    model: Diffusion
    erased: Set[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Show:
    """Everything that is needed to draw a prompt.

    Attributes:
        columns: the base first.
        sampler: of all columns.
        jury: what judges the images.
        examples: prompts to begin with.
    """

    columns: tuple[Column, ...]
    sampler: Sampler
    jury: Jury
    examples: tuple[str, ...]


def newest_run(root: Path) -> Path:
    """The run below a folder, or one level deeper, whose model was finished last.

    Raises:
        UserError: there is none.
    """
    found = [model for depth in ("*", "*/*") for model in root.glob(f"{depth}/{MODEL}")]
    finished = [model for model in found if (model.parent / RECORD).is_file() and index_of(model)]
    if not finished:
        raise UserError(
            f"There is no finished run below {root}: make one by 'erase run --concept church', or "
            "name a run folder."
        )
    return max(finished, key=lambda model: (model / str(index_of(model))).stat().st_mtime).parent


FULL = "show fewer runs, or use --device cpu"
"""What to do where memory is full."""


@memory_told(FULL)
def open_show(folders: Sequence[Path], device: str, steps: int | None = None) -> Show:
    """Opens the runs' models, their base and their judges.

    Args:
        folders: of finished runs from one base, at least one.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        steps: denoising steps of each image, >= 1; None takes the first run's.

    Raises:
        UserError: a folder without a finished run, different bases, or steps that the model's
            schedule does not have.
    """
    if len(set(folders)) < len(folders):
        raise UserError("A run is named twice: give each once.")
    runs = [_opened(folder) for folder in folders]
    check_bases(folders)
    first = runs[0]
    sampler = _sampler(runs, steps)
    where = accelerator(device, for_sampling(first.recipe.precision), deterministic=False).device
    last = first.compute.channels_last
    base = Diffusion.load(first.model, where, channels_last=last)
    base.family.check_sampling(sampler.steps, sampler.name)
    if model_fingerprint(base) != read_facts(first.out / RECORD)["model"]["fingerprint"]:
        raise UserError(
            f"The base {short(first.model)} is no longer the model that {first.out} was erased "
            "from: put the old one back, or run again."
        )
    jury = open_jury(runs)
    columns = [Column(short(first.model), "the base model", base)]
    for run, erased in zip(runs, jury.concepts, strict=True):
        model = Diffusion.load(str(run.out / "model"), where, channels_last=last)
        columns.append(Column(near(run.out), f"without {_concepts(run)}", model, erased))
    return Show(tuple(columns), sampler, jury, _examples(runs))


def _opened(folder: Path) -> Run:
    if not (folder / RECORD).is_file():
        raise UserError(f"{folder} is not a run folder: give folders that 'erase run' made.")
    run = resume(folder)
    if run is None or not index_of(folder / MODEL):
        raise UserError(
            f"The run {folder} has no model yet: finish it by running its command again, or name "
            "another run."
        )
    return run


def _sampler(runs: Sequence[Run], steps: int | None) -> Sampler:
    """The first run's, for all columns; says which runs were judged by another."""
    first = runs[0]
    if others := [near(run.out) for run in runs[1:] if run.sampler() != first.sampler()]:
        note(
            f"{', '.join(others)} made the images of the report with other sampler settings than "
            f"{near(first.out)}; all are shown with those of {near(first.out)}."
        )
    if steps is not None and steps < 1:
        raise UserError(f"--sampling-steps {steps} is less than 1: give at least one step.")
    return first.sampler() if steps is None else replace(first.sampler(), steps=steps)


def _concepts(run: Run) -> str:
    return " and ".join(t.concept.word or "the empty prompt" for t in run.targets)


def _examples(runs: Sequence[Run]) -> tuple[str, ...]:
    """The first prompt of each concept and of its anchor, and some that are retained."""
    asked = [prompt for run in runs for target in run.targets for prompt in target.pairs()[0]]
    kept = spread(runs[0].retain_prompts(), EXAMPLES)
    return tuple(dict.fromkeys(prompt for prompt in (*asked, *kept) if prompt))
