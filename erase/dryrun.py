"""``--dry-run``: the stages, the resolved recipe, counts and estimates, without doing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from erase.errors import UserError
from erase.methods import load_method
from erase.recipe import as_dict
from erase.runs import COMMANDS, OUTPUTS, RunFolder

if TYPE_CHECKING:
    from erase.recipe import Recipe
    from erase.task import Task


@dataclass(frozen=True)
class Sizes:
    """A model as its configuration has it, no weight read.

    Attributes:
        denoiser, others: numbers of weights.
        side: of its images, in px.
        scheduler: its own sampler.
    """

    denoiser: int
    others: int
    side: int
    scheduler: Any = field(compare=False)


def sizes(model: str) -> Sizes | None:
    """The model's sizes; None for one on the hub that was not downloaded yet.

    Raises:
        UserError: there is no such model, or none that can be trained.
    """
    from erase.checkpoint import open_base
    from erase.layout import networks, skeleton
    from erase.supported import own_scheduler, refuse_unsupported

    try:
        base = open_base(model, fetch=False)
    except UserError:
        if Path(model).exists() or model.count("/") != 1:
            raise
        return None
    with TemporaryDirectory() as place:
        folder = base.path
        if not folder.is_dir():
            folder = Path(place)
            base.unpack(folder)
        built: dict[str, Any] = {name: skeleton(folder, name) for name in networks(folder)}
        scheduler = own_scheduler(folder)
    unet = built["unet"].config
    refuse_unsupported(unet, scheduler.config, model, xl="text_encoder_2" in built)
    counts = {n: sum(p.numel() for p in net.parameters()) for n, net in built.items()}
    levels = len(built["vae"].config.block_out_channels)
    side = int(unet.sample_size) * 2 ** (levels - 1)
    denoiser = counts.pop("unet")
    return Sizes(denoiser, sum(counts.values()), side, scheduler)


def describe_tasks(tasks: Sequence[Task], stages: Sequence[str]) -> str:
    """What the tasks would do, as text; nothing is written, and no model is downloaded.

    What its configuration shows to be impossible is refused as a run would refuse it.

    Disk counts images at 2 bytes per pixel (PNG of photographs) and moved weights in fp32; memory
    counts weights, and the saliency's sums or the training's copies, gradients and moments of the
    masked weights, whichever is more, without activations.

    Raises:
        UserError: there is no such model, or it can't be trained or sampled so.
    """
    from erase.sampling import check_sampling
    from erase.task import requests

    first = tasks[0]
    recipe = first.job.recipe
    found = sizes(first.model)
    if found:
        check_sampling(as_dict(recipe), found.scheduler)
    asked = {side: len(rows) for side, rows in requests(first.job).items()}
    roles = {role: int(getattr(recipe, f"{role}_images")) for role in first.job.roles()}
    needs = load_method(recipe.method).NEEDS
    images = sum(roles.values()) + sum(asked.values())
    ratio = (recipe.ratio if recipe.mask != "none" else 1.0) if needs.loop else 0.0
    about = f"{found.denoiser / 1e6:.1f} M denoiser weights" if found else "not downloaded yet"
    lines = [f"model     {first.model} ({about})"]
    for task in tasks:
        told = ", ".join(f"{c.name} -> {a.name}" for c, a in task.job.targets)
        lines.append(f"run       {told}: {task.out}")
        run = RunFolder.open(task.out)
        done = [stage for stage in OUTPUTS if run.finished(stage)]
        if done:
            lines.append(f"          finished there, if nothing changed: {', '.join(done)}")
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
        "eval": "report.json, .html, .md, .csv",
    }
    lines += [f"stage     {stage:7s} {plan[stage]}" for stage in OUTPUTS if stage in wanted]
    lines += [f"recipe    {key} = {value}" for key, value in as_dict(recipe).items()]
    if found:
        total = found.denoiser + found.others
        side = recipe.size or found.side
        disk = images * side * side * 2 + total * 4 + found.denoiser / 8
        memory = _memory(recipe, found, ratio)
        lines.append(f"disk      about {disk / 2**20:,.0f} MiB a run")
        lines.append(f"memory    about {memory / 2**20:,.0f} MiB, without activations")
    return "\n".join(lines)


def _memory(recipe: Recipe, found: Sizes, ratio: float) -> float:
    """Bytes; see ``describe_tasks``."""
    small = recipe.low_memory
    # The other networks leave the device once they have done their work.
    weights = found.denoiser * 2 if small else (found.denoiser + found.others) * 4
    moments = {"adam8bit": 2, "sgd": 4}.get(recipe.optimizer, 8)
    training = found.denoiser * ratio * (4 + 4 + moments)
    saliency = found.denoiser * 4 if recipe.mask == "saliency" else 0
    loaded = (found.denoiser + found.others) * 4
    return max(loaded, weights + max(training, saliency))
