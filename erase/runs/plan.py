"""What each stage of a run reads, hashed, and what a run records of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from erase.recipes.recipe import as_dict, keys
from erase.recipes.stages import settings
from erase.runs.evaluation import deciding
from erase.runs.folder import Plan
from erase.runs.job import inputs
from erase.runs.task import Task
from erase.runtime import processes
from erase.runtime.files import digest, identity
from erase.runtime.machine import versions


def make_plan(task: Task, model: Mapping[str, str]) -> Plan:
    """What every stage of the task reads, hashed."""
    job = task.job
    flat = as_dict(job.recipe)
    read = {stage: {k: flat[k] for k in keys(stage)} for stage in ("base", "erased")}
    asked = {
        side: digest([vars(r) | {"labels": dict(r.labels)} for r in rows])
        for side, rows in deciding(job, task.eval_shift).items()
    }
    training = inputs(job, model)
    if task.included:
        given = {"model": dict(model), "included": identity(task.included)}
        training = dict.fromkeys(training, given)
    return Plan(
        {
            **training,
            "base": {
                "model": dict(model),
                **read["base"],
                "requests": [asked["base"], asked["base2"]],
            },
            "erased": {**read["erased"], "requests": asked["erased"]},
            "eval": {
                "concept": [asdict(target.concept) for target in job.targets],
                "anchor": [asdict(target.anchor) for target in job.targets],
                **task.instruments.identities(target.concept for target in job.targets),
            },
        }
    )


def describe(task: Task, model: Mapping[str, str], device: str) -> dict[str, Any]:
    """The facts of ``run.json`` besides the stages."""
    job = task.job
    return {
        "model": {"source": task.model, "fingerprint": dict(model)},
        "concept": job.name,
        "anchor": " + ".join(target.anchor.name for target in job.targets),
        "kind": job.concept.kind,
        "seed": job.seed,
        "recipe": settings(job.recipe, task.included) if task.included else as_dict(job.recipe),
        "pairs": [list(p) for p in job.pairs()],
        "given": {
            "concept": task.concept,
            "anchor": task.anchor,
            "retain": job.retain,
            "neighbours": job.neighbours,
            **task.instruments.given(),
            "forget_folder": str(job.forget_folder) if job.forget_folder else None,
            "retain_folder": str(job.retain_folder) if job.retain_folder else None,
        },
        "device": device,
        "processes": processes.count(),
        "deterministic": task.compute.deterministic,
        "channels_last": task.compute.channels_last,
        "compiled": task.compute.compiled,
        "versions": versions(),
    }
