"""What is sampled and how; the samplers themselves are diffusers'."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from erase.images.request import _MODELS_OWN, SAMPLERS
from erase.runtime.errors import UserError


def scheduler(kind: Any, config: Mapping[str, Any], **settings: Any) -> Any:
    """A scheduler of some class on a model's noise schedule.

    diffusers' own conversion drops what the model's file leaves to its scheduler's defaults, and
    another class has others: an LCM's file without betas would come out with a linear schedule.
    How the steps are spaced is the sampler's own where the file says nothing.

    Args:
        kind: the class.
        config: of the model's own scheduler, its defaults included.
        settings: of the new one, which go before the model's.
    """
    known = inspect.signature(kind.__init__).parameters
    own = {key: config[key] for key in _MODELS_OWN if key in config and key in known}
    return kind.from_config(config, **{**own, **settings})


def ddim(config: Mapping[str, Any]) -> Any:
    """A deterministic DDIM sampler on a model's noise schedule.

    DDIM's own default would clip x_0 to ±1, which latents exceed.
    """
    import diffusers

    said = {key: config.get(key, False) for key in ("clip_sample", "set_alpha_to_one")}
    return scheduler(diffusers.DDIMScheduler, config, **said)


def make_sampler(name: str, config: Mapping[str, Any]) -> Any:
    """The scheduler behind one of ``SAMPLERS``; none of them draws noise between its steps."""
    import diffusers

    match name:
        case "dpm++":
            kind = diffusers.DPMSolverMultistepScheduler
            return scheduler(kind, config, algorithm_type="dpmsolver++")
        case "lms":
            return scheduler(diffusers.LMSDiscreteScheduler, config)
    return ddim(config)


def training_schedule(config: Mapping[str, Any]) -> Any:
    """The noise schedule that the model was trained with."""
    import diffusers

    return scheduler(diffusers.DDPMScheduler, config)


def follows(sampler: Any, config: Mapping[str, Any]) -> bool:
    """Whether a scheduler's noise levels ᾱ are those of training, to 1e-4."""
    theirs = training_schedule(config).alphas_cumprod
    return bool((sampler.alphas_cumprod - theirs).abs().max() < 1e-4)


def check_sampler(name: str, config: Mapping[str, Any]) -> None:
    """Refuses a sampler that knows nothing of the model's zero terminal SNR, or of its betas.

    Raises:
        UserError: naming those that do.
    """

    def fits(one: str) -> bool:
        try:
            return follows(make_sampler(one, config), config)
        except NotImplementedError:  # a shape of betas that the class does not know
            return False

    if not fits(name):
        others = " or ".join(one for one in SAMPLERS if one != name and fits(one))
        zero = " (zero terminal SNR)" if config.get("rescale_betas_zero_snr") else ""
        raise UserError(
            f"The sampler {name} can't follow the model's noise schedule{zero}: "
            + (f"use --sampler {others}." if others else "no sampler here can.")
        )


def check_sampling(scheduler: Any, steps: int, sampler: str | None, flag: str, remedy: str) -> None:
    """Refuses a sampler that does not follow the model's noise schedule, or with too many steps
    for it; see ``families.Family.check_sampling``."""
    most = int(scheduler.config.num_train_timesteps)
    if steps >= most:
        raise UserError(f"{flag} {steps} is not below the model's {most} timesteps: choose fewer.")
    if sampler is not None:
        check_sampler(sampler, scheduler.config)
    elif not follows(scheduler, scheduler.config):
        raise UserError(
            f"The model's own scheduler ({type(scheduler).__name__}) does not follow its noise "
            f"schedule (zero terminal SNR): {remedy}."
        )


@contextmanager
def sampling(pipeline: Any, sampler: Any) -> Iterator[Any]:
    """The pipeline with another scheduler and no safety checker, restored afterwards."""
    kept, checker = pipeline.scheduler, getattr(pipeline, "safety_checker", None)
    pipeline.scheduler = sampler
    if checker is not None:
        pipeline.safety_checker = None
    try:
        yield pipeline
    finally:
        pipeline.scheduler = kept
        if checker is not None:
            pipeline.safety_checker = checker


@contextmanager
def fast(denoiser: Any, call: Any) -> Iterator[None]:
    """The denoiser with its compiled call, for sampling alone: training reads its attention and
    recomputes its activations.

    Raises:
        UserError: it can't be compiled here.
    """
    denoiser._compiled_call_impl = call
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"--compile does not work here ({reason}): leave it out.") from error
    finally:
        denoiser._compiled_call_impl = None
