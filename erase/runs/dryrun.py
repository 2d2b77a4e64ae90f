"""``--dry-run``: the stages, the resolved recipe, counts and estimates, without doing anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from erase.methods import load_method
from erase.recipes.recipe import as_dict
from erase.runs.estimate import disk_bytes, memory_bytes
from erase.runs.evaluation import requests
from erase.runs.folder import OUTPUTS, RunFolder
from erase.runs.outline import called, long_told, time_told
from erase.runs.preflight import Ready, device_memory, prepare
from erase.runs.rates import rates
from erase.runs.run import listed
from erase.runtime.devices import memory_told

if TYPE_CHECKING:
    from erase.runs.run import Run


def describe_runs(runs: Sequence[Run], stages: Sequence[str], overwrite: bool = False) -> str:
    """What the runs would do, as text, after the checks of a run; nothing is made, and neither
    models nor judges are downloaded.

    Args:
        runs: of one model and recipe.
        stages: as the command line names them.
        overwrite: whether changed inputs are accepted.

    Raises:
        UserError: what a run would raise before its first image.
    """
    ready = prepare(runs, stages, overwrite, fetch=False)
    first, diffusion = ready.run, ready.diffusion
    count = sum(p.numel() for p in diffusion.denoiser.parameters()) if diffusion else 0
    about = f"{count / 1e6:.1f} M denoiser weights" if count else "not downloaded yet"
    lines = [f"model     {first.model} ({about})"]
    for run, stale in zip(runs, ready.stale, strict=True):
        told = ", ".join(f"{called(c)} -> {called(a)}" for c, a, _ in run.targets)
        lines.append(f"run       {told}: {run.out}")
        folder = RunFolder.open(run.out)
        done = [stage for stage in OUTPUTS if stage not in stale and folder.finished(stage)]
        if done:
            lines.append(f"          already finished: {', '.join(done)}")
        if stale:
            lines.append(f"          discarded, since inputs changed: {', '.join(stale)}")
    plan = _stages(first)
    lines += [f"stage     {stage:7s} {plan[stage]}" for stage in OUTPUTS if stage in ready.wanted]
    lines += [f"recipe    {key} = {value}" for key, value in as_dict(first.recipe).items()]
    if diffusion is None:
        unknown = "          time, disk and memory are unknown until the model is downloaded"
        return "\n".join([*lines, unknown])
    return "\n".join([*lines, *_estimates(ready, len(runs))])


def _stages(run: Run) -> dict[str, str]:
    """What each stage makes."""
    recipe = run.recipe
    asked = {side: len(rows) for side, rows in requests(run).items()}
    roles = {
        role: f"{len(listed(run, role))} of your own"
        if run.sources.folder(role)
        else int(getattr(recipe, f"{role}_images"))
        for role in run.roles()
    }
    loop = load_method(recipe.method).NEEDS.loop
    return {
        "images": ", ".join(f"{n} {role} images" for role, n in roles.items()) or "none needed",
        "mask": f"{recipe.mask} mask, {recipe.scope} scope"
        + (f", ratio {recipe.ratio}" if recipe.mask != "none" else ""),
        "train": f"{recipe.method}, {recipe.steps} steps, batch size {recipe.batch_size}"
        if loop
        else f"{recipe.method}, in closed form",
        "base": f"{asked['base']} + {asked['base2']} images of the base model",
        "erased": f"{asked['erased']} images of the erased model",
        "eval": "report.json, .html, .md, .csv",
    }


@memory_told()
def _estimates(ready: Ready, count: int) -> list[str]:
    """Time, disk and memory of ``count`` runs like the first one."""
    assert ready.diffusion is not None
    todo = RunFolder.open(ready.run.out).left(ready.wanted, ready.stale[0])
    found = rates(ready)
    each = " per run" if count > 1 else ""
    memory, there = memory_bytes(ready), device_memory(ready.diffusion.device)
    of = f" of {there / 2**20:,.0f}" if there else ""
    where = "the GPU" if ready.diffusion.device.type == "cuda" else "the whole process"
    lines = [
        f"time      {time_told(ready, found, todo, count)}",
        f"disk      about {disk_bytes(ready) / 2**20:,.0f} MiB{each}",
        f"memory    about {memory / 2**20:,.0f}{of} MiB at the peak ({where})",
    ]
    closed = sorted({spec for one in ready.opened for spec in one.unfetched})
    lines += [f"judge     {spec} (not downloaded yet: its time is not counted)" for spec in closed]
    long = long_told([ready.run] * count, found, todo)
    return [*lines, *([long] if long else [])]
