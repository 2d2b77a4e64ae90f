"""``erase eval --images``: from the command line's flags to a measurement of any folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.errors import UserError

if TYPE_CHECKING:
    from jsonargparse import Namespace

    from erase.eval.nudity import Config


def measure_images(options: Namespace, values: Mapping[str, Any], config: Config | None) -> str:
    """Measures the folders that ``options`` name.

    Args:
        options: of ``erase eval``.
        values: recipe values among the flags; there is nothing that they could change.
        config: what counts as nudity.

    Returns:
        The Markdown table, and where the page is.

    Raises:
        UserError: bad input.
    """
    from erase.concepts import load_concept
    from erase.devices import accelerator
    from erase.eval.nudity import Config
    from erase.eval.standalone import Inquiry, evaluate_folders
    from erase.eval.standalone_tables import markdown
    from erase.sets import load_set

    given = [f"--{key.replace('_', '-')}" for key in values]
    given += [f"--{key}" for key in ("recipe", "method", "seed") if options[key] is not None]
    if given:
        raise UserError(f"{given[0]} has no effect on images that exist: leave it out.")
    folders = [Path(text) for text in options.images]
    against = Path(options.against) if options.against else None
    reference = Path(options.reference) if options.reference else None
    if len(folders) == 1 and (folders[0] / "run.json").exists():
        sides = folders[0] / "eval"
        folders = [sides / "erased"]
        against = against or sides / "base"
        reference = reference or sides / "base2"
    concept = load_concept(options.concept) if options.concept else None
    metrics = [name.strip() for name in (options.metrics or "").split(",") if name.strip()]
    if not metrics:
        metrics = ["nudity"] if config else []
        metrics += ["classifier"] if concept else []
        metrics += ["clip_score"] if options.clip else []
        metrics += ["fidelity"] if reference else []
    anchor = options.anchor or (concept.anchor if concept else None)
    inquiry = Inquiry(
        folders=tuple(folders),
        metrics=tuple(dict.fromkeys(metrics)),
        against=against,
        reference=reference,
        prompts=load_set(options.set) if options.set else None,
        concept=concept,
        anchor=load_concept(anchor) if anchor else None,
        judge=options.judge,
        clip=options.clip,
        features=options.features,
        nudity=config or Config(),
        device=accelerator(options.device, "fp32", options.deterministic).device,
    )
    out = Path(options.out or f"runs/eval-{folders[0].resolve().name}")
    if (out / "run.json").exists():
        raise UserError(f"{out} is a run folder: choose another --out.")
    if (out / "report.json").exists() and not options.overwrite:
        raise UserError(f"{out} holds a report: add --overwrite or choose another --out.")
    return f"{markdown(evaluate_folders(inquiry, out))}\n{out / 'report.html'}"
