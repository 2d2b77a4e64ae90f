"""What a run is likely to take: seconds, disk and memory."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from erase.methods import load_method
from erase.runs.costs import mask_forwards, training_forwards
from erase.runs.preflight import (
    BYTES_PER_PIXEL,
    Ready,
    checkpoint_bytes,
    image_counts,
    moment_bytes,
)
from erase.runs.rates import Rates, image_passes, measured_images
from erase.runs.stages import saliency_at_once

if TYPE_CHECKING:
    from erase.runs.run import Run

HOUR = 3600.0
REPORT = 5.0
"""Seconds of writing a report, whatever was measured."""
CPU_COPIES = 2
"""On a CPU, convolutions work in copies about as large as what they read and write."""


def seconds(run: Run, rates: Rates, stages: Iterable[str]) -> float:
    """Seconds of the stages.

    Args:
        run: what is to be done.
        rates: of this machine with its model.
        stages: as the run folder names them.
    """
    recipe, counts = run.recipe, image_counts(run)
    loop = load_method(recipe.method).NEEDS.loop
    made = image_passes(run) * rates.passes + rates.image
    each = {
        **{stage: count * made for stage, count in counts.items()},
        "mask": mask_forwards(recipe) * rates.trained if loop else 0.0,
        "train": training_forwards(recipe, recipe.steps) * rates.trained if loop else 0.0,
        "eval": measured_images(run) * rates.judged + REPORT,
    }
    return sum(each[stage] for stage in stages)


def disk_bytes(ready: Ready) -> float:
    """Most bytes of a run: its images as PNG, its model in fp32, a bit for each of its weights, and
    while it trains three checkpoints."""
    diffusion, run = ready.diffusion, ready.run
    assert diffusion is not None
    weights = {n: sum(p.numel() for p in net.parameters()) for n, net in diffusion.networks.items()}
    side = run.recipe.size or diffusion.size
    images = sum(n for stage, n in image_counts(run).items() if stage in ready.wanted)
    part = load_method(run.recipe.method).NEEDS.part
    mask = sum(p.numel() for p in diffusion.part(part).parameters()) / 8
    model = sum(weights.values()) * 4 + mask if "train" in ready.wanted else 0
    return (
        images * side**2 * BYTES_PER_PIXEL + model + checkpoint_bytes(run, diffusion, ready.wanted)
    )


def memory_bytes(ready: Ready) -> float:
    """Most bytes that a run holds; see ``peak_memory_mb``.

    On a CPU that is the whole process: what it has now, with libraries and model, and on top the
    largest of what sampling, the saliency pass and training hold. On a GPU it is the device's.
    """
    from erase.diffusion.memory import (
        at_once,
        decoder_bytes,
        denoiser_bytes,
        to_low_memory,
        weights_bytes,
    )

    diffusion, recipe = ready.diffusion, ready.run.recipe
    assert diffusion is not None
    cpu = diffusion.device.type == "cpu"
    side = (recipe.size or diffusion.size) // diffusion.stride
    denoiser, vae = _empty(diffusion.denoiser), diffusion.autoencoder
    passes = partial(denoiser_bytes, diffusion.family, denoiser)
    copies = CPU_COPIES if cpu else 1
    largest = 0.0
    if {"images", "base", "erased"} & set(ready.wanted):
        rows = recipe.sampling_batch * (2 if recipe.guidance_scale > 1 else 1)
        images = min(recipe.sampling_batch, at_once([recipe.size or diffusion.size] * 2))
        decoded = decoder_bytes(_empty(vae), images, side) if vae is not None else 0
        largest = copies * max(passes(rows, side), decoded)
    method = load_method(recipe.method)
    needs = method.NEEDS
    if needs.loop and {"mask", "train"} & set(ready.wanted):
        moved = diffusion.scoped(recipe.scope, needs.part).values()
        weights = 4 * sum(p.numel() for p in moved)
        scope, frozen = "full", 0
        if needs.part == "denoiser":
            scope = recipe.scope
            frozen = 0 if recipe.low_memory else weights_bytes(diffusion.denoiser)
        if recipe.low_memory:
            to_low_memory(denoiser)
        if recipe.mask == "saliency" and "mask" in ready.wanted:
            rows = saliency_at_once(recipe) * (2 if recipe.saliency_guidance else 1)
            largest = max(largest, copies * passes(rows, side, scope))
        split = recipe.low_memory and needs.mean
        batch = recipe.micro_batch or (1 if split else recipe.batch_size)
        # Each role's graph is held until the step is over.
        own = getattr(method, "rows", lambda _, count: count * max(1, len(needs.images)))
        rows = own(recipe.config, batch)
        share = recipe.ratio if recipe.mask != "none" else 1.0
        further, whole = (
            getattr(method, hook, lambda _: 0)(recipe.config) for hook in ("held", "networks")
        )
        held = weights * (share * (4 + moment_bytes(recipe)) / 4 + further) + frozen
        held += whole * weights_bytes(diffusion.part(needs.part))
        largest = max(largest, copies * passes(rows, side, scope) + held)
    return largest + (_resident() if cpu else sum(map(weights_bytes, diffusion.networks.values())))


def duration(value: float) -> str:
    """Seconds in words that promise no more than an estimate can."""
    if value < 90:
        return f"{max(1, round(value / 10) * 10)} s" if value >= 10 else f"{max(1, round(value))} s"
    if value < 1.5 * HOUR:
        return f"{round(value / 60)} min"
    if value < 48 * HOUR:
        return f"{value / HOUR:.1f} h" if value < 10 * HOUR else f"{round(value / HOUR)} h"
    return f"{round(value / HOUR / 24)} days"


def _empty(network: Any) -> Any:
    """A network of the same configuration on the meta device."""
    import torch

    with torch.device("meta"):
        return type(network).from_config(network.config)


def _resident() -> int:
    import psutil  # type: ignore[import-untyped]

    return int(psutil.Process().memory_info().rss)
