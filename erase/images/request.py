"""What an image is made from: prompt, seed, labels, and how it is sampled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One image to make.

    Attributes:
        set: name of the prompt set.
        case_number: row of the set.
        k: number of the image within its row.
        prompt: the text c.
        seed: of the starting noise.
        role: ``forget`` or ``retain``.
        labels: what the image should show, by axis.
        guidance: guidance scale of this image; None takes the sampler's.
        size: height and width of this image in px, see ``diffusion.Shot``.
    """

    set: str
    case_number: int
    k: int
    prompt: str
    seed: int
    role: str
    labels: Mapping[str, str] = field(default_factory=dict)
    guidance: float | None = None
    size: tuple[int | None, int | None] | None = None

    @property
    def file(self) -> str:
        """File name, unique within a set."""
        return f"{self.case_number:05d}_{self.k}.png"


SAMPLERS = ("ddim", "dpm++", "lms")
_MODELS_OWN = (
    *("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas"),
    *("rescale_betas_zero_snr", "prediction_type", "steps_offset"),
)
"""Settings of a scheduler that belong to the model, whatever samples from it."""


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
