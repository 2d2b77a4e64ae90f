"""``erase combine``: one model of what several runs erased from one base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from erase.eval.instruments.choice import Instruments
from erase.formats.folder import layout_of
from erase.methods import list_methods, load_method
from erase.recipes.recipe import Recipe, keys
from erase.runs.evaluation import requests
from erase.runs.folder import RECORD, model_of, read_facts
from erase.runs.make import make_run, resume
from erase.runs.run import Compute, Run, Sources
from erase.runtime.errors import UserError, few
from erase.runtime.notes import note
from erase.runtime.words import fold

Overlap = Literal["sum", "refuse"]


def make_combination(
    folders: Sequence[str], out: str | None, overlap: Overlap, compute: Compute
) -> Run:
    """A run whose model is the sum of other runs' edits; it is evaluated as the first of them was.

    Args:
        folders: of the runs, at least two.
        out: its own folder; None is named after its concepts.
        overlap: what becomes of weights that several runs moved.
        compute: where and how the networks are run.

    Raises:
        UserError: no finished runs of a method, two bases, a concept that two of them erase,
            weights that several of them moved where that is refused, or prompts that one run was
            trained on and another would be judged by.
    """
    if len(folders) < 2:
        raise UserError("Combining takes at least two runs: give another one.")
    runs = [_opened(Path(folder)) for folder in folders]
    check_bases(folders)
    first = runs[0]
    # Their denoisers alone: cards are written anew.
    found = [Path(model_of(folder)) for folder in folders]
    models = tuple(model / layout_of(model).denoiser for model in found)
    run = make_run(
        first.model,
        [target.named[0] for run in runs for target in run.targets],
        [target.named[1] for run in runs for target in run.targets],
        _recipe(runs, models, _overlap(first.model, models, overlap)),
        out=out,
        sources=Sources(retain=_common(runs, "retain"), neighbours=_common(runs, "neighbours")),
    )
    run = replace(run, instruments=_instruments(runs), compute=compute)
    _check_held_out(run, runs)
    return run


def _common(runs: Sequence[Run], key: str) -> str | None:
    """What all runs were given; where they differ, each concept's own, which is told."""
    values = {getattr(run.sources, key) for run in runs}
    if len(values) == 1:
        return cast("str | None", values.pop())
    told = few(sorted(str(value) for value in values if value is not None))
    note(f"The runs were given different --{key} ({told}): each concept's own is used.")
    return None


def _instruments(runs: Sequence[Run]) -> Instruments:
    """Those of the first run, and of each further one what none before it named."""
    found = runs[0].instruments
    # A judge of one run does not stand in the place of another concept's own.
    without = [run for run in runs if not run.instruments.judge]
    own = any(target.concept.judge for run in without for target in run.targets)
    kept = ("judge",) if own else ()
    for run in runs[1:]:
        named = {k: v for k, v in vars(run.instruments).items() if v is not None}
        more = {k: v for k, v in named.items() if getattr(found, k) is None and k not in kept}
        found = replace(found, **more)
    return found


def _opened(folder: Path) -> Run:
    record = folder / RECORD
    if not record.is_file():
        raise UserError(f"{folder} is not a run folder: give folders that 'erase run' made.")
    method = read_facts(record).get("recipe", {}).get("method")
    if method not in list_methods():
        raise UserError(
            f"The run {folder} was not made by a method ('{method}'): give the runs that it was "
            "put together from."
        )
    if load_method(method).NEEDS.part != "denoiser":
        raise UserError(
            f"The run {folder} moved the text encoder ({method}), and only edits of the denoiser "
            "can be combined: leave it out."
        )
    run = resume(folder)
    if run is None:
        raise UserError(f"The run {folder} does not say what it erased: run it again.")
    return run


def check_bases(folders: Sequence[str | Path]) -> None:
    """Refuses runs of different bases.

    Raises:
        UserError: naming two of them.
    """
    bases = [read_facts(Path(folder) / RECORD).get("model", {}) for folder in folders]
    for folder, base in zip(folders, bases, strict=True):
        if base.get("fingerprint") != bases[0].get("fingerprint"):
            raise UserError(
                f"{folders[0]} and {folder} were erased from different bases "
                f"({bases[0].get('source')} and {base.get('source')}): give runs of one base."
            )


def _overlap(base: str, models: Sequence[Path], overlap: Overlap) -> float:
    """The share of the moved weights that several runs moved, told.

    Raises:
        UserError: there are such weights, and they are to be refused.
    """
    from erase.formats.base import open_base
    from erase.formats.folder import read_parts
    from erase.runtime.fingerprint import fingerprint_state

    state = open_base(base).denoiser_state()
    recorded = read_facts(models[0].parent.parent / RECORD).get("model", {}).get("fingerprint", {})
    if fingerprint_state(state) != recorded.get("denoiser"):
        raise UserError(
            f"{base} is no longer the model that the runs were erased from: put the old one back."
        )
    states = [read_parts(folder.parent, "denoiser") for folder in models]
    added: Any = load_method("combined")
    found = added.add(state, states)
    share = found.shared / found.moved if found.moved else 0.0
    told = (
        f"{found.shared:,} of {found.moved:,} moved weights ({100 * share:.1f}\u00a0%) were moved "
        "by more than one run"
    )
    if found.shared and overlap == "refuse":
        raise UserError(f"{told}: leave out --overlap refuse to sum their changes.")
    note(f"{told}; their changes are summed." if found.shared else "No weight was moved twice.")
    return round(share, 6)


def _recipe(runs: Sequence[Run], models: Sequence[Path], share: float) -> Recipe:
    """Images as the first run's evaluation made them."""
    common = keys("base", "eval")
    first, judged_by = runs[0], _instruments(runs)
    for run in runs[1:]:
        other = [key for key in common if getattr(run.recipe, key) != getattr(first.recipe, key)]
        named = vars(run.instruments).items()
        if any(value not in (None, getattr(judged_by, key)) for key, value in named):
            other.append("its judges")
        if other:
            note(
                f"{run.out} was evaluated with other settings ({', '.join(other)}); those of "
                f"{first.out} are used here."
            )
    names = " + ".join(
        f"{run.out.name} ({run.recipe.method}, recipe {run.recipe.name}, seed {run.seed})"
        for run in runs
    )
    return Recipe(
        name="combined",
        method="combined",
        config=load_method("combined").Config(names, share, tuple(models)),
        mask="none",
        **{key: getattr(first.recipe, key) for key in common},
    )


def _check_held_out(run: Run, runs: Sequence[Run]) -> None:
    """Refuses to judge by prompts that a run was trained on."""
    asked = {fold(row.prompt) for row in requests(run)["erased"] if row.role != "forget"}
    for other in runs:
        if known := sorted(asked & other.trained_prompts()):
            raise UserError(
                f"{other.out} was trained to retain {len(known)} of the prompts that the combined "
                f"model would be judged by, e.g. '{known[0]}': give runs with the same --retain."
            )
