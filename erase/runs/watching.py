"""Who looks on while a model trains: previews, and accelerate's trackers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from erase.methods import load_method
from erase.runs.evaluation import requests
from erase.runs.previews import plan_previews
from erase.runtime import processes

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.runs.manner import Manner
    from erase.runs.run import Run
    from erase.unlearn.fit import Watch

LOGS = "tracking"
"""Folder of a run for what a tracker writes."""


@contextmanager
def watching(run: Run, diffusion: Diffusion, manner: Manner, acc: Any) -> Iterator[Watch | None]:
    """Has the first process draw previews and tell the tracker; None where nobody looks on.

    Args:
        run, diffusion: what is trained.
        manner: what was asked for.
        acc: the accelerator whose tracker it is.
    """
    if not processes.is_main() or not (manner.preview or manner.tracker):
        yield None
        return
    recipe, needs = run.recipe, load_method(run.recipe.method).NEEDS
    previews = None
    if manner.preview:
        previews = plan_previews(
            diffusion,
            requests(run)["base"],
            {"forget": [c for c, _ in run.pairs()], "retain": run.retain_prompts()},
            run.sampler(),
            run.out,
            times=manner.preview,
            steps=recipe.steps if needs.loop else None,
            at_once=1 if recipe.low_memory else recipe.sampling_batch,
        )
        if needs.part == "text_encoder":
            previews = replace(previews, c=None, empty=None)
    tracker = _open(manner.tracker, acc, run.out) if manner.tracker else None

    def watch(step: int, row: Mapping[str, float]) -> None:
        figures = {k: v for k, v in row.items() if k not in ("step", "seconds")}
        if tracker is not None and figures:
            tracker.log(figures, step=step)
        made = previews.draw(diffusion, step) if previews is not None else []
        if tracker is not None and made:
            shape = {"dataformats": "NHWC"} if manner.tracker == "tensorboard" else {}
            tracker.log_images({"previews": np.stack(made)}, step=step, **shape)

    try:
        yield watch
    finally:
        if tracker is not None:
            tracker.finish()


def _open(name: str, acc: Any, out: Path) -> Any:
    """The tracker, through accelerate."""
    from accelerate.tracking import filter_trackers
    from accelerate.utils import ProjectConfiguration

    folder = out / LOGS
    folder.mkdir(exist_ok=True)
    acc.project_configuration = ProjectConfiguration(str(folder), str(folder))
    acc.log_with = filter_trackers([name], str(folder))
    acc.init_trackers(out.resolve().name, init_kwargs={"wandb": {"dir": str(folder)}})
    return acc.get_tracker(name)
