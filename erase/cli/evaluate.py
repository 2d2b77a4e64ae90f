"""``erase eval --images``: from the command line's flags to a measurement of any folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace

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
    from erase.eval.folders.evaluate import Inquiry, evaluate_folders
    from erase.eval.folders.tables import markdown
    from erase.prompts.concept import load_concept
    from erase.prompts.prompt_set import load_set
    from erase.runs.folder import read_facts
    from erase.runs.task import family
    from erase.runtime.devices import accelerator

    given = [f"--{key.replace('_', '-')}" for key in values]
    idle = ("model", "recipe", "method", "seed", "retain", "neighbours", "shared", "forget_folder")
    given += [
        f"--{key.replace('_', '-')}" for key in (*idle, "retain_folder") if options[key] is not None
    ]
    switches = ("dry_run", "channels_last", "compile")
    given += [f"--{key.replace('_', '-')}" for key in switches if options[key]]
    if given:
        raise UserError(f"{given[0]} has no effect on images that exist: leave it out.")
    folders = [Path(text) for text in options.images]
    against = Path(options.against) if options.against else None
    reference = Path(options.reference) if options.reference else None
    run = folders[0] if (folders[0] / "run.json").exists() else None
    facts = read_facts(run / "run.json") if run else {}
    if run and len(folders) == 1:
        against = against or run
        reference = reference or run
    folders = [_side(folder, "erased") for folder in folders]
    against = against and _side(against, "base")
    reference = reference and _side(reference, "base2")
    named = _only(options.concept or facts.get("given", {}).get("concept"), "--concept")
    model = str(facts.get("model", {}).get("source") or "")
    concept = load_concept(named, family(model)) if named else None
    metrics = [name.strip() for name in (options.metrics or "").split(",") if name.strip()]
    if not metrics:
        metrics = ["nudity"] if instruments.nudity else []
        metrics += ["classifier"] if concept else []
        metrics += ["clip_score"] if instruments.clip else []
        metrics += ["fidelity"] if reference else []
        metrics += ["lpips"] if instruments.lpips else []
    anchor = _only(options.anchor or facts.get("given", {}).get("anchor"), "--anchor")
    anchor = anchor or (concept.anchor if concept else None)
    inquiry = Inquiry(
        folders=tuple(folders),
        metrics=tuple(dict.fromkeys(metrics)),
        against=against,
        reference=reference,
        prompts=load_set(options.set) if options.set else None,
        concept=concept,
        anchor=load_concept(anchor, family(model)) if anchor else None,
        model=model,
        instruments=instruments,
        device=accelerator(options.device, "fp32", options.deterministic, several=True).device,
    )
    out = Path(options.out or f"runs/eval-{(run or folders[0]).resolve().name}")
    if (out / "run.json").exists():
        raise UserError(f"{out} is a run folder: choose another --out.")
    if any(out.glob("report.*")) and not options.overwrite:
        raise UserError(f"{out} holds a report: add --overwrite or choose another --out.")
    result = evaluate_folders(inquiry, out)
    return f"{markdown(result)}\n{out / 'report.html'}", result


def _only(given: str | list[str] | None, flag: str) -> str | None:
    if isinstance(given, list) and len(given) > 1:
        raise UserError(
            f"Images that exist are measured for one concept at a time: give {flag} once "
            f"({' or '.join(given)})."
        )
    return given[0] if isinstance(given, list) else given


def _side(folder: Path, side: str) -> Path:
    """A side's images, where the folder is a run's."""
    return folder / "eval" / side if (folder / "run.json").exists() else folder
