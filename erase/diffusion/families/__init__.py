"""What differs between families of diffusion models, one module each.

    FAMILY: a ``Family``

A pipeline's class, which its ``model_index.json`` names, tells which family it is of.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from erase.runtime.modules import modules

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.text import Text
    from erase.formats.layouts import Layout


class Family(Protocol):
    """A pipeline in the verbs that differ between families.

    Attributes:
        layout: what the pipeline consists of, on disk too.
        pipeline: diffusers' own.
    """

    layout: ClassVar[Layout]

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

    def text(self, device: torch.device) -> Text:
        """The text encoders; what they make of prompts is wanted on ``device``."""
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

    def prompts(self, c: Conditioning, empty: Conditioning | None) -> dict[str, Any]:
        """What the pipeline is given in place of prompts; ``empty`` where it guides away."""
        ...


def family_of(pipeline: Any) -> Family:
    """The family of a pipeline, whose class is one of a family's."""
    kind = type(pipeline).__name__
    known = {m.FAMILY.layout.pipeline: m.FAMILY for m in modules(__name__)}
    return cast(Family, known[kind](pipeline))
