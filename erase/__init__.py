"""Erase a concept from a text-to-image diffusion model, and prove it.

import erase
report = erase.run(model="mini", concept="church", anchor="truck", out="runs/church")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.eval.report.result import Report, load_report
    from erase.images.request import Sampler, Shot
    from erase.prompts.concept import Concept, load_concept
    from erase.recipes.recipe import Recipe, load_recipe
    from erase.runs.classifiers.api import unlearn_classifier
    from erase.unlearn.mask import Mask

__all__ = [
    "Concept",
    "Diffusion",
    "Mask",
    "Recipe",
    "Report",
    "Sampler",
    "Shot",
    "load_concept",
    "load_recipe",
    "load_report",
    "run",
    "unlearn_classifier",
]

_HOMES = {
    "Concept": "prompts.concept",
    "load_concept": "prompts.concept",
    "Diffusion": "diffusion.model",
    "Sampler": "images.request",
    "Shot": "images.request",
    "Mask": "unlearn.mask",
    "Recipe": "recipes.recipe",
    "load_recipe": "recipes.recipe",
    "Report": "eval.report.result",
    "load_report": "eval.report.result",
    "unlearn_classifier": "runs.classifiers.api",
}


def __dir__() -> list[str]:
    """What there is for users, so that completion finds it before it is imported."""
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Imports on first use, so that ``erase --help`` does not wait for torch."""
    if name == "__version__":
        return version("erase-diffusion")
    if name not in _HOMES:
        raise AttributeError(f"module 'erase' has no attribute '{name}'")
    return getattr(import_module(f"erase.{_HOMES[name]}"), name)


def run(  # noqa: PLR0913 - the flags of `erase run`, so that a script says what the command says
    model: str | PathLike[str],
    concept: str | Sequence[str],
    anchor: str | Sequence[str | None] | None = None,
    recipe: str | PathLike[str] | None = None,
    seed: int = 0,
    out: str | PathLike[str] | None = None,
    stages: Sequence[str] = ("images", "mask", "train", "generate", "eval"),
    overwrite: bool = False,
    *,
    judge: str | None = None,
    clip: str | None = None,
    features: str | None = None,
    lpips: str | None = None,
    nudity: str | None = None,
    retain: str | PathLike[str] | None = None,
    neighbours: str | PathLike[str] | None = None,
    forget_folder: str | PathLike[str] | None = None,
    retain_folder: str | PathLike[str] | None = None,
    device: str = "auto",
    deterministic: bool = False,
    channels_last: bool = False,
    compiled: bool = False,
    shared: str | PathLike[str] | None = None,
    require: str | Mapping[str, float] | None = None,
    anyway: bool = False,
    preview: int = 4,
    tracker: str | None = None,
    **overrides: Any,
) -> Report:
    """Does what ``erase run`` does.

    Args:
        model: ``mini``, a hub id, a diffusers folder or a single file.
        concept: a concept's name or free text; several are erased together.
        anchor: what is made instead, once for all concepts or once for each; None takes the
            concept's own.
        recipe: a recipe's name or a TOML file; None takes the model's default.
        seed: of every random draw, >= 0.
        out: run folder; None is ``runs/MODEL-CONCEPT-RECIPE-SEED``.
        stages: the part to do.
        overwrite: redo stages whose inputs changed.
        judge: classifier behind UA, IRA and CRA; None takes the concept's own.
        clip: open_clip model behind the CLIP score.
        features: network behind FID and KID.
        lpips: network behind LPIPS.
        nudity: preset or NudeNet classes that count as nudity; None asks only where it is the
            concept.
        retain: prompt set to keep, a name or a CSV file.
        neighbours: prompt set likely to be damaged with the concept; None takes the concept's own.
        forget_folder, retain_folder: the user's own images.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        deterministic: the same bits on every run of a GPU.
        channels_last: lay feature maps out pixel by pixel.
        compiled: compile the denoiser for sampling.
        shared: folder where runs find each other's images of the base model.
        require: least values of figures, as ``"ua=0.95,ira=0.9"`` or a mapping, fractions; one that
            was not measured, or of fewer than 10 images, is not met.
        anyway: train even where the base model makes the concept in less than 20 % of its images.
        preview: how often training draws four fixed prompts into the run folder, 0 for none.
        tracker: ``tensorboard`` or ``wandb``, which also gets losses and previews.
        **overrides: recipe values, e.g. ``alpha=0.3``.

    Returns:
        The content of ``report.json``, with its main figures as attributes (``report.ua``); empty
        without the stage ``eval``.

    Raises:
        erase.runtime.errors.UserError: bad input; the message says what to do.
        RequirementError: a requirement is not met (see ``erase.eval.report.requirements``); the
            report is written.
    """
    given = _call(locals())
    from dataclasses import replace
    from pathlib import Path

    from erase.eval.instruments.choice import Instruments
    from erase.eval.instruments.nudenet import Config
    from erase.eval.report.requirements import check_report, checked, parse
    from erase.runs.execute import execute
    from erase.runs.make import check_edits, make_run
    from erase.runs.manner import Manner
    from erase.runs.run import Compute, Sources
    from erase.runtime.devices import settings_kept
    from erase.runtime.errors import UserError

    required = parse(require) if isinstance(require, str) else checked(require or {})
    if required and "eval" not in stages:
        raise UserError("A requirement has no effect without the stage eval: leave it out.")
    sources = Sources(
        Path(forget_folder) if forget_folder else None,
        Path(retain_folder) if retain_folder else None,
        _spelled(retain),
        _spelled(neighbours),
    )
    asked = replace(
        make_run(
            fspath(model),
            concept,
            anchor,
            _spelled(recipe),
            seed,
            _spelled(out),
            overrides,
            sources,
        ),
        instruments=Instruments(judge, clip, features, lpips, Config(nudity) if nudity else None),
        compute=Compute(device, deterministic, channels_last, compiled),
        shared=Path(shared) if shared else None,
    )
    check_edits(asked.recipe)
    manner = Manner(True, anyway, preview, tracker)
    with settings_kept():
        report = execute(asked, stages, overwrite, manner, command=given)
    check_report(report, required)
    return report


def _spelled(path: str | PathLike[str] | None) -> str | None:
    return None if path is None else fspath(path)


def _call(arguments: dict[str, Any]) -> str:
    """The call of ``run`` with what differs from its defaults, files by their names."""
    from inspect import signature

    from erase.runtime.places import short

    defaults = {name: p.default for name, p in signature(run).parameters.items()}
    named = {**arguments, **arguments["overrides"]}
    del named["overrides"]
    shown = (
        f"{name}={(short(fspath(value)) if isinstance(value, (str, PathLike)) else value)!r}"
        for name, value in named.items()
        if name not in defaults or value != defaults[name]
    )
    return f"erase.run({', '.join(shown)})"
