"""What an image is made from: prompt, seed, labels, and how it is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


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

    def of(self, shots: Sequence[Shot]) -> tuple[Sampler, tuple[int | None, int | None] | None]:
        """The sampler of a batch, with the guidance that the shots ask for, and their size.

        Raises:
            ValueError: they don't ask for the same.
        """
        guidance = {self.guidance if s.guidance is None else s.guidance for s in shots}
        sizes = {s.size for s in shots}
        if len(guidance) != 1 or len(sizes) != 1:
            raise ValueError("a batch has one guidance scale and one size")
        return replace(self, guidance=guidance.pop()), sizes.pop()

    def sides(self, size: tuple[int | None, int | None] | None, own: int) -> tuple[int, int]:
        """Height and width in px of shots of some size, from a model of its own side."""
        height, width = size or (None, None)
        return self.size or height or own, self.size or width or own
