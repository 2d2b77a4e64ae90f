"""What is sampled and how; the samplers themselves are diffusers'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SAMPLERS = ("ddim", "dpm++", "lms")


@dataclass(frozen=True)
class Shot:
    """One image to be sampled.

    Attributes:
        prompt: the text c.
        seed: of the starting noise, which depends on nothing else.
        guidance: guidance scale of this image; None takes the sampler's.
        size: height and width of this image in px, each None for the model's own; the sampler's
            size goes before it.
    """

    prompt: str
    seed: int
    guidance: float | None = None
    size: tuple[int | None, int | None] | None = None


@dataclass(frozen=True)
class Sampler:
    """How images are sampled from noise.

    Attributes:
        name: ``ddim`` (arXiv 2010.02502), ``dpm++`` (multistep, arXiv 2211.01095) or ``lms``.
        steps: denoising steps, >= 1.
        guidance: classifier-free guidance scale; 1 is none.
        size: side of the square image in px; None is the model's own.
    """

    name: str = "ddim"
    steps: int = 50
    guidance: float = 7.5
    size: int | None = None


def ddim(config: Mapping[str, Any]) -> Any:
    """A DDIM sampler on a scheduler's noise schedule.

    diffusers would clip x_0 to ±1 where the config, being another sampler's, says nothing of it.
    """
    import diffusers

    unsaid = {k: False for k in ("clip_sample", "set_alpha_to_one") if k not in config}
    return diffusers.DDIMScheduler.from_config(config, **unsaid)


@contextmanager
def sampling(pipeline: Any, name: str) -> Iterator[Any]:
    """The pipeline with a sampler's scheduler and no safety checker, restored afterwards."""
    import diffusers

    kinds = {
        "ddim": ddim,
        "dpm++": diffusers.DPMSolverMultistepScheduler.from_config,
        "lms": diffusers.LMSDiscreteScheduler.from_config,
    }
    kept, checker = pipeline.scheduler, getattr(pipeline, "safety_checker", None)
    pipeline.scheduler = kinds[name](kept.config)
    if checker is not None:
        pipeline.safety_checker = None
    try:
        yield pipeline
    finally:
        pipeline.scheduler = kept
        if checker is not None:
            pipeline.safety_checker = checker
