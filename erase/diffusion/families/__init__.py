"""What differs between families of diffusion models, one module each.

    FAMILY: a ``Family``

A pipeline's class, which its ``model_index.json`` names, tells which family it is of.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from erase.runtime.modules import modules

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from erase.diffusion.conditioning import Conditioning
    from erase.formats.layouts import Layout


class Reader(Protocol):
    """What prompts are read by: text encoders, or a list of classes."""

    @property
    def closed(self) -> bool:
        """Whether prompts are the names of classes, or empty, and nothing else."""
        ...

    @property
    def length(self) -> int:
        """Tokens that are read of a prompt."""
        ...

    def embed(self, prompts: Sequence[str]) -> Conditioning:
        """The prompts as the denoiser is told them.

        Raises:
            UserError: a prompt that it can't be told.
        """
        ...

    def unconditional(self) -> Conditioning:
        """∅, one row.

        Raises:
            UserError: the model knows none.
        """
        ...

    def ids(self, prompts: Sequence[str]) -> Sequence[Hashable]:
        """What is read of each prompt; errors as for ``embed``."""
        ...

    def cut(self, prompts: Iterable[str]) -> list[str]:
        """The prompts that are not read to their end."""
        ...

    def reads(self, prompt: str, word: str) -> bool:
        """Whether a word, wherever a prompt first says it, is read whole."""
        ...

    def facts(self) -> list[Any]:
        """What decides how a prompt is read, besides weights, as JSON."""
        ...


class Family(Protocol):
    """A pipeline in the verbs that differ between families.

    Attributes:
        layout: what the pipeline consists of, on disk too.
        pipeline: diffusers' own.
        square: whether it makes only square images.
    """

    layout: ClassVar[Layout]
    square: ClassVar[bool]

    def __init__(self, pipeline: Any) -> None: ...

    @property
    def timesteps(self) -> int:
        """T: how far a time t may count."""
        ...

    def check(self, source: str) -> None:
        """Refuses a model that would be trained on another function than it samples from.

        Raises:
            UserError: it is one; ``source`` says which.
        """
        ...

    def reader(self, device: torch.device) -> Reader:
        """What reads prompts; what is made of them is wanted on ``device``."""
        ...

    @property
    def stride(self) -> int:
        """Image px per px of x_0."""
        ...

    @property
    def multiple(self) -> int:
        """Of what an image's sides have to be a multiple, px."""
        ...

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior over x_0 of images (B, 3, H, W) in [-1, 1]: means and standard deviations
        (B, C, h, w) each, in the denoiser's range."""
        ...

    def decode(self, x0: Tensor) -> Tensor:
        """Images (B, 3, H, W) of x_0 (B, C, h, w), about in [-1, 1]."""
        ...

    def times(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Times t of some shape, drawn as in the model's own training."""
        ...

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t (B, C, h, w) of clean latents, noise and times t (B,)."""
        ...

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What a perfect denoiser would predict, (B, C, h, w).

        Raises:
            UserError: the model predicts something that is not known here.
        """
        ...

    def predict(self, denoiser: nn.Module, x_t: Tensor, t: Tensor, c: Conditioning) -> Tensor:
        """The denoiser's prediction at (x_t, t) given c, in its precision; keeps the graph."""
        ...

    def blank(self, denoiser: Any, rows: int) -> Conditioning:
        """Conditioning of ``rows`` prompts as a denoiser takes it, without values (meta)."""
        ...

    def in_scope(self, scope: str, name: str) -> bool:
        """Whether a denoiser's parameter belongs to one of ``scopes.SCOPES``."""
        ...

    def sampler(self, name: str) -> Any:
        """The scheduler behind one of ``SAMPLERS``, on the model's noise schedule."""
        ...

    def check_sampling(
        self,
        steps: int,
        sampler: str | None,
        flag: str = "--sampling-steps",
        remedy: str = "use another model",
    ) -> None:
        """Refuses what the model can't be sampled by.

        Args:
            steps: of the sampler.
            sampler: one of ``SAMPLERS``; None for the model's own.
            flag: that asks for the steps.
            remedy: what to do where the model's own does not follow its noise schedule.

        Raises:
            UserError: naming the flag.
        """
        ...

    def denoise(
        self,
        sampler: Any,
        noise: Tensor,
        c: Conditioning,
        empty: Conditioning | None,
        *,
        steps: int,
        guidance: float,
    ) -> Tensor:
        """x_0 (B, C, h, w) from pure noise.

        Args:
            sampler: of ``sampler``.
            noise: standard normal (B, C, h, w).
            c: B rows.
            empty: ∅, B rows, where it guides away.
            steps: of the sampler.
            guidance: classifier-free guidance scale; 1 is none.
        """
        ...


def family_of(pipeline: Any) -> Family:
    """The family of a pipeline, whose class is one of a family's."""
    kind = type(pipeline).__name__
    known = {m.FAMILY.layout.pipeline: m.FAMILY for m in modules(__name__)}
    return cast(Family, known[kind](pipeline))
