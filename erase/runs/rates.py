"""How fast this machine is with a model: tried out shortly, or seen in the last run."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.methods import load_method
from erase.runs.costs import forwards
from erase.runs.preflight import image_counts
from erase.runs.run import roles_of
from erase.runtime import processes
from erase.runtime.files import cache_folder, write_json

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.runs.preflight import Ready
    from erase.runs.run import Run

SHORT, TRIES = 1.0, 3
"""Seconds that a trial may take (of larger batches a part is tried), and how often it is made."""
LEAST = {"images": 30, "steps": 30}
"""Of a stage, below which its start would count as its work."""


@dataclass(frozen=True)
class Rates:
    """Seconds of work.

    Attributes:
        passes: of an image through the denoiser, in sampling.
        image: of what else an image takes to make.
        trained: of an image through the denoiser in mask and training; one with a gradient counts
            three times, as in ``erase.runs.costs``.
        judged: of measuring an image.
        seen: the attributes that an earlier run has shown; the others were tried out.
        busy: whether they were tried out beside other work, so that they may be off many times.
    """

    passes: float
    image: float
    trained: float
    judged: float
    seen: tuple[str, ...] = ()
    busy: bool = False

    @property
    def source(self) -> str:
        """Where the figures come from, in words."""
        known = {"passes", "trained", "judged"} & set(self.seen)
        if len(known) == 3:
            return "as in the last such run on this machine"
        tried = "a short measurement on this machine"
        return f"from {tried} and from earlier runs" if known else f"from {tried}"


_TRIED: dict[str, Rates] = {}
"""What this process has tried out already."""


def rates(ready: Ready) -> Rates:
    """The rates for a run whose model is open."""
    diffusion = ready.diffusion
    assert diffusion is not None
    key, recipe = machine(ready), ready.run.recipe
    whole = f"{key} {recipe.method} {recipe.batch_size}"
    seen = {k: v for k, v in _read().get(key, {}).items() if isinstance(v, float)}
    told: dict[str, Any] = {k: seen[k] for k in ("passes", "judged") if k in seen}
    if f"trained {recipe.method}" in seen:
        told["trained"] = seen[f"trained {recipe.method}"]
    if not {"passes", "judged", "trained"} <= told.keys() and whole not in _TRIED:
        _TRIED[whole] = _shared(_try_out(ready, diffusion))
    found = _TRIED.get(whole, Rates(0.0, 0.0, 0.0, 0.0))
    if "passes" in told:
        told["image"] = 0.0  # seen together
    tried = not {"passes", "judged", "trained"} <= told.keys()
    slowed = tried and diffusion.device.type == "cpu" and busy()
    return replace(found, **told, seen=tuple(told), busy=slowed)


def _shared(alone: Rates) -> Rates:
    """The rates of one process, of which several share images and batches out."""
    count = processes.count()
    each = {key: getattr(alone, key) / count for key in ("passes", "image", "trained")}
    return replace(alone, **each)


def busy() -> bool:
    """Whether more is running than there are cores. Threads that wait for each other then take
    many times as long, small batches most of all."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


def remember(
    key: str, run: Run, stages: Mapping[str, Mapping[str, Any]], done: Sequence[str]
) -> None:
    """Keeps what a run took for those to come; a place that can't be written keeps nothing.

    Args:
        key: of ``machine``.
        run: the run.
        stages: records of ``run.json``.
        done: stages that this sitting made, from nothing.
    """
    recipe, counts = run.recipe, image_counts(run)
    found: dict[str, float] = {}
    made = [s for s in ("base", "erased") if s in done]
    images = sum(counts[s] for s in made)
    if images >= LEAST["images"]:
        took = sum(stages[s]["seconds"] for s in made)
        found["passes"] = took / images / image_passes(run)
    if recipe.steps >= LEAST["steps"] and forwards(recipe) and {"mask", "train"} <= set(done):
        took = stages["mask"]["seconds"] + stages["train"]["seconds"]
        found[f"trained {recipe.method}"] = took / forwards(recipe)
    if "eval" in done and measured_images(run) >= LEAST["images"]:
        found["judged"] = stages["eval"]["seconds"] / measured_images(run)
    if found:
        kept = _read()
        kept[key] = {**kept.get(key, {}), **found}
        with suppress(OSError):
            write_json(_file(), kept)


def image_passes(run: Run) -> int:
    """Passes of the denoiser for an image."""
    recipe = run.recipe
    return recipe.sampling_steps * (2 if recipe.guidance_scale > 1 else 1)


def measured_images(run: Run) -> int:
    """Number of images that the report measures."""
    counts = image_counts(run)
    return counts["base"] + counts["erased"]


def _file() -> Path:
    """``$ERASE_CACHE/rates.json``, else in the user's cache folder."""
    return cache_folder() / "rates.json"


def _read() -> dict[str, dict[str, Any]]:
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(_file().read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(v, dict) for v in found.values()):
            return found
    return {}


def machine(ready: Ready) -> str:
    """What the rates of a run depend on besides the method: model, device, instruments."""
    import torch

    assert ready.model is not None and ready.diffusion is not None
    recipe, device = ready.run.recipe, ready.diffusion.device
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    own = asdict(ready.run.instruments)
    named = "+".join(str(own[k]) for k in ("judge", "clip", "features", "lpips") if own[k])
    size = recipe.size or ready.diffusion.size
    several = f" x{count}" if (count := processes.count()) > 1 else ""
    light = " low-memory" if recipe.low_memory else ""
    return (
        f"{ready.model['denoiser'][:16]} {place}{several} {torch.get_num_threads()} {size}px "
        f"{recipe.sampling_batch} {recipe.precision}{light} {named}"
    ).strip()


def _try_out(ready: Ready, diffusion: Diffusion) -> Rates:
    """Passes of the denoiser, alone and with the way back, an image decoded, and the judges."""
    import torch

    recipe = ready.run.recipe
    side = (recipe.size or diffusion.size) // diffusion.stride
    channels = diffusion.channels
    c = diffusion.embed([""])

    def through(rows: int, gradient: bool = False) -> None:
        x = torch.zeros(rows, channels, side, side, device=diffusion.device)
        t = torch.zeros(rows, dtype=torch.long, device=diffusion.device)
        cast = ready.accelerator.autocast() if gradient else nullcontext()  # as training alone is
        with torch.set_grad_enabled(gradient), cast:
            out = diffusion.predict(x, t, c.repeat(rows))
            if gradient:
                out.float().square().mean().backward()

    def decode(images: int) -> None:
        diffusion.decode(torch.zeros(images, channels, side, side, device=diffusion.device))

    def timed(work: Callable[[int], None], most: int) -> float:
        """Seconds a row, with as many at a time as a run has or a short trial allows."""
        work(1)  # the first time sets up what others find
        one = _seconds(lambda: work(1))
        rows = max(1, min(most, int(SHORT / TRIES / one)))
        return _seconds(lambda: work(rows)) / rows

    batch = recipe.sampling_batch * (2 if recipe.guidance_scale > 1 else 1)
    passes = timed(through, batch)
    trained = passes
    if forwards(recipe) and "forget" in roles_of(recipe) and passes * 9 < SHORT:
        needs, denoiser = load_method(recipe.method).NEEDS, diffusion.denoiser
        scope = recipe.scope if needs.part == "denoiser" else "full"
        for weight in diffusion.scoped(scope).values():
            weight.requires_grad_(True)
        most = recipe.micro_batch or (1 if recipe.low_memory else recipe.batch_size)
        with suppress(torch.OutOfMemoryError):  # a trial, where the run itself may fit
            trained = timed(lambda rows: through(rows, True), most) / 3
        denoiser.requires_grad_(False).zero_grad(set_to_none=True)
    judged = sum(one.seconds(side * diffusion.stride) for one in ready.opened)
    return Rates(passes, timed(decode, recipe.sampling_batch), trained, judged)


def _seconds(work: Callable[[], None]) -> float:
    """The shortest of ``TRIES``: what other work on the machine adds comes and goes."""
    import torch

    took: list[float] = []
    while len(took) < TRIES and sum(took) < SHORT:
        began = time.perf_counter()
        work()
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return min(took)
