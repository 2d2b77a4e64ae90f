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

if TYPE_CHECKING:
    from erase.runs.task import Task


def describe_tasks(tasks: Sequence[Task], stages: Sequence[str], overwrite: bool = False) -> str:
    """What the tasks would do, as text, after the checks of a run; nothing is made, and neither
    models nor judges are downloaded.

    Args:
        tasks: of one model and recipe.
        stages: as the command line names them.
        overwrite: whether changed inputs are accepted.

    Raises:
        UserError: what a run would raise before its first image.
    """
    ready = prepare(tasks, stages, overwrite, fetch=False)
    first, diffusion = ready.task, ready.diffusion
    count = sum(p.numel() for p in diffusion.denoiser.parameters()) if diffusion else 0
    about = f"{count / 1e6:.1f} M denoiser weights" if count else "not downloaded yet"
    lines = [f"model     {first.model} ({about})"]
    for task in tasks:
        told = ", ".join(f"{called(c)} -> {called(a)}" for c, a in task.job.targets)
        lines.append(f"run       {told}: {task.out}")
        run = RunFolder.open(task.out)
        done = [stage for stage in OUTPUTS if run.finished(stage)]
        if done:
            lines.append(f"          finished there: {', '.join(done)}")
    plan = _stages(first)
    lines += [f"stage     {stage:7s} {plan[stage]}" for stage in OUTPUTS if stage in ready.wanted]
    lines += [f"recipe    {key} = {value}" for key, value in as_dict(first.job.recipe).items()]
    if diffusion is None:
        return "\n".join([*lines, "          time, disk and memory are unknown until it is there"])
    return "\n".join([*lines, *_estimates(ready, len(tasks))])


def _stages(task: Task) -> dict[str, str]:
    """What each stage makes."""
    recipe, job = task.job.recipe, task.job
    asked = {side: len(rows) for side, rows in requests(job, task.eval_shift).items()}
    roles = {
        role: "your own" if job.folder(role) else int(getattr(recipe, f"{role}_images"))
        for role in job.roles()
    }
    loop = load_method(recipe.method).NEEDS.loop
    return {
        "images": ", ".join(f"{n} {role} images" for role, n in roles.items()) or "none needed",
        "mask": f"{recipe.mask} mask, {recipe.scope} scope"
        + (f", ratio {recipe.ratio}" if recipe.mask != "none" else ""),
        "train": f"{recipe.method}, {recipe.steps} steps of {recipe.batch_size} images a role"
        if loop
        else f"{recipe.method}, in closed form",
        "base": f"{asked['base']} + {asked['base2']} images of the base model",
        "erased": f"{asked['erased']} images of the erased model",
        "eval": "report.json, .html, .md, .csv",
    }


def _estimates(ready: Ready, count: int) -> list[str]:
    """Time, disk and memory of ``count`` runs like the first one."""
    assert ready.diffusion is not None
    run = RunFolder.open(ready.task.out)
    todo = [stage for stage in ready.wanted if not run.finished(stage)]
    found = rates(ready)
    each = " a run" if count > 1 else ""
    memory, there = memory_bytes(ready), device_memory(ready.diffusion.device)
    of = f" of {there / 2**20:,.0f}" if there else ""
    where = "the GPU" if ready.diffusion.device.type == "cuda" else "the process, libraries and all"
    lines = [
        f"time      {time_told(ready, found, todo, count)}",
        f"disk      about {disk_bytes(ready) / 2**20:,.0f} MiB{each}",
        f"memory    about {memory / 2**20:,.0f}{of} MiB at the peak ({where})",
    ]
    closed = sorted({j.spec for one in ready.opened for j in one.judges.values() if not j.facts})
    lines += [f"judge     {spec} (not downloaded yet: its time is not counted)" for spec in closed]
    long = long_told([ready.task] * count, found, todo)
    return [*lines, *([long] if long else [])]
