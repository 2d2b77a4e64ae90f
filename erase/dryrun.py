"""``--dry-run``: the stages, the resolved recipe, counts and estimates, without doing anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from erase.methods import load_method
from erase.recipe import as_dict
from erase.runs import COMMANDS, OUTPUTS

if TYPE_CHECKING:
    from erase.commands import Task


def describe_tasks(tasks: Sequence[Task], stages: Sequence[str]) -> str:
    """What the tasks would do, as text.

    Disk counts images at 2 bytes per pixel (PNG of photographs) and moved weights in fp32; memory
    counts fp32 weights, gradients and Adam's moments of the masked weights, without activations.
    """
    from erase.commands import requests
    from erase.diffusion import Diffusion

    first = tasks[0]
    recipe = first.job.recipe
    diffusion = Diffusion.load(first.model)
    pipeline = diffusion.pipeline
    networks = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    weights, *others = [sum(p.numel() for p in network.parameters()) for network in networks]
    total = weights + sum(others)
    size = recipe.size or diffusion.size
    asked = {side: len(rows) for side, rows in requests(first.job).items()}
    roles = {role: int(getattr(recipe, f"{role}_images")) for role in first.job.roles()}
    needs = load_method(recipe.method).NEEDS
    images = sum(roles.values()) + sum(asked.values())
    ratio = (recipe.ratio if recipe.mask != "none" else 1.0) if needs.loop else 0.0
    disk = images * size * size * 2 + total * 4 + weights / 8
    memory = total * 4 + weights * 4 + weights * ratio * 12
    lines = [f"model     {first.model} ({weights / 1e6:.1f} M denoiser weights)"]
    for task in tasks:
        lines.append(f"run       {task.job.concept.name} -> {task.job.anchor.name}: {task.out}")
    wanted = {s for name in stages for s in COMMANDS[name]}
    plan = {
        "images": ", ".join(f"{n} {role} images" for role, n in roles.items()) or "none needed",
        "mask": f"{recipe.mask} mask, {recipe.scope} scope"
        + (f", ratio {recipe.ratio}" if recipe.mask != "none" else ""),
        "train": f"{recipe.method}, {recipe.steps} steps of {recipe.batch_size} images a role"
        if needs.loop
        else f"{recipe.method}, in closed form",
        "base": f"{asked['base']} + {asked['base2']} images of the base model",
        "erased": f"{asked['erased']} images of the erased model",
        "eval": "report.json, report.html",
    }
    lines += [f"stage     {stage:7s} {plan[stage]}" for stage in OUTPUTS if stage in wanted]
    lines += [f"recipe    {key} = {value}" for key, value in as_dict(recipe).items()]
    lines.append(f"disk      about {disk / 2**20:,.0f} MiB a run")
    lines.append(f"memory    about {memory / 2**20:,.0f} MiB, without activations")
    return "\n".join(lines)
