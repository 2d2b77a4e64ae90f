"""``erase eval --images``: from the command line's flags to a measurement of any folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from erase.eval.folders.evaluate import Inquiry
    from erase.eval.instruments.choice import Instruments


def measure_images(
    options: Namespace, values: Mapping[str, Any], instruments: Instruments
) -> tuple[str, dict[str, Any]]:
    """Measures the folders that ``options`` name.

    Args:
        options: of ``erase eval``.
        values: recipe values among the flags; there is nothing that they could change.
        instruments: what the images are measured with.

    Returns:
        The Markdown table with the place of the page, and the content of ``report.json``.

    Raises:
        UserError: bad input.
    """
    from erase.eval.folders.evaluate import evaluate_folders
    from erase.eval.folders.tables import markdown

    _refuse_idle(options, values)
    inquiry, name = _inquiry(options, instruments)
    out = Path(options.out or f"runs/eval-{name}")
    if (out / "run.json").exists():
        raise UserError(f"{out} is a run folder: choose another --out.")
    if any(out.glob("report.*")) and not options.overwrite:
        raise UserError(f"{out} holds a report: add --overwrite or choose another --out.")
    result = evaluate_folders(inquiry, out)
    return f"{markdown(result)}\n{out / 'report.html'}", result


def _refuse_idle(options: Namespace, values: Mapping[str, Any]) -> None:
    idle = ("model", "recipe", "method", "seed", "retain", "neighbours", "shared")
    named = (*idle, "forget_folder", "retain_folder")
    switches = ("dry_run", "channels_last", "compile")
    given = [*values, *(key for key in named if options[key] is not None)]
    given += [key for key in switches if options[key]]
    if given:
        flag = given[0].replace("_", "-")
        raise UserError(f"--{flag} has no effect on existing images: leave it out.")


def _inquiry(options: Namespace, instruments: Instruments) -> tuple[Inquiry, str]:
    """What is measured, and the name of what it is measured on; of a run folder its concept,
    its judge, its base's images and the reference."""
    from erase.eval.folders.evaluate import Inquiry
    from erase.prompts.classes import anchor_of
    from erase.prompts.concept import full_name, load_concept
    from erase.prompts.prompt_set import load_set
    from erase.runs.folder import read_facts
    from erase.runs.make import concept_of, family, instruments_of
    from erase.runtime.devices import accelerator

    folders = [Path(text) for text in options.images]
    against = Path(options.against) if options.against else None
    reference = Path(options.reference) if options.reference else None
    run = folders[0] if (folders[0] / "run.json").exists() else None
    facts = read_facts(run / "run.json") if run else {}
    given = facts.get("given", {})
    asked_then = instruments_of(given)
    instruments = replace(
        instruments,
        judge=instruments.judge or asked_then.judge,
        nudity=instruments.nudity or asked_then.nudity,
    )
    if run and len(folders) == 1:
        against = against or run
        reference = reference or run
    model = str(facts.get("model", {}).get("source") or "")
    named = _only(options.concept or given.get("concept"), "--concept")
    if named and not model:
        named = full_name(named)
    concept = concept_of(named, model) if named else None
    anchor = _only(given.get("anchor") if options.anchor is None else options.anchor, "--anchor")
    anchor = anchor if anchor is not None or concept is None else concept.anchor
    becomes = None
    if anchor is not None:
        home = family(model)
        becomes = anchor_of(concept, anchor, home) if concept else load_concept(anchor, home)
    metrics = [name.strip() for name in (options.metrics or "").split(",") if name.strip()]
    if not metrics:
        asked = {
            "nudity": instruments.nudity or (concept and concept.kind == "nudity"),
            "classifier": concept,
            "clip_score": instruments.clip,
            "fidelity": reference,
            "lpips": instruments.lpips,
        }
        metrics = [name for name, wanted in asked.items() if wanted]
    _refuse_unread(options, metrics)
    inquiry = Inquiry(
        folders=tuple(_side(folder, "erased") for folder in folders),
        metrics=tuple(dict.fromkeys(metrics)),
        against=against and _side(against, "base"),
        reference=reference and _side(reference, "base2"),
        prompts=load_set(options.set) if options.set else None,
        concept=concept,
        anchor=becomes,
        model=model,
        instruments=instruments,
        device=accelerator(options.device, "fp32", options.deterministic, several=True).device,
    )
    return inquiry, folders[0].resolve().name


def _refuse_unread(options: Namespace, metrics: Sequence[str]) -> None:
    """Refuses what none of the metrics reads."""
    readers = {
        "judge": ("classifier", "--concept"),
        "anchor": ("classifier", "--concept"),
        "features": ("fidelity", "--reference"),
        "clip": ("clip_score", "--metrics clip_score"),
        "lpips": ("lpips", "--metrics lpips"),
        "reference": ("fidelity", "--metrics fidelity"),
    }
    told = dict(vars(options))
    for key, value in vars(options.nudity).items():
        readers[f"nudity.{key}"], told[f"nudity.{key}"] = ("nudity", "--metrics nudity"), value
    for name, (metric, needed) in readers.items():
        if told[name] and metric not in metrics:
            raise UserError(
                f"--{name} has no effect here, where no {metric} is measured: leave it out, or add "
                f"{needed}."
            )


def _only(given: str | list[str] | None, flag: str) -> str | None:
    if isinstance(given, list) and len(given) > 1:
        raise UserError(
            f"Existing images are measured for one concept at a time: give {flag} once "
            f"({' or '.join(given)})."
        )
    return given[0] if isinstance(given, list) else given


def _side(folder: Path, side: str) -> Path:
    """A side's images, where the folder is a run's."""
    return folder / "eval" / side if (folder / "run.json").exists() else folder
