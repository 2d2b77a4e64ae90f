"""Forget-Me-Not (Zhang et al., arXiv 2303.17591): attention re-steering.

    L(θ) = Σ ‖A_θ(x_t, c)[:, tokens]‖    or its square

over the cross-attention probabilities A of all layers, at the tokens of the concept's word in c.
x_t are noised images of the concept. The norm is taken over all layers, heads, pixels and tokens
of a batch at once. The paper minimises the squared norm, the published code the plain one, whose
gradient does not fade as the attention does. The code also re-steers every end-of-text token, which
on Stable Diffusion 1 are all that fill the prompt up (its own configuration is for 2.1, where one
is), and runs a textual inversion first; both are options here, and the code's settings of the
inversion too. Not offered: the code clips gradients at a norm of 1, and crops and flips its images
at random.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from erase.methods import Needs
from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

# The norm is one over the whole batch.
NEEDS = Needs(
    images=("forget",),
    anchor=False,
    word=True,
    text="takes attention away from the tokens of a word",
    mean=False,
)
SPACE = {"lr": (0.1, 10.0), "norm": ["plain", "squared"], "steps": (0.03, 1.0)}


@dataclass(frozen=True)
class Config:
    """Forget-Me-Not's own settings."""

    norm: Literal["plain", "squared"] = field(
        default="plain",
        metadata={"help": "norm of the attention that is minimised: the code's or the paper's"},
    )
    end_token: bool = field(
        default=True, metadata={"help": "re-steer the end-of-text token too (as in the code)"}
    )
    every_end_token: bool = field(
        default=False,
        metadata={
            "help": "re-steer every end-of-text token, including those that pad the prompt "
            "(as in the code; Stable Diffusion 1 pads with them)",
            "needs": "end_token",
        },
    )
    inversion_steps: int = field(
        default=0,
        metadata={
            "help": "steps of textual inversion beforehand; 0 for none (code: 500)",
            "min": 0,
        },
    )
    inversion_tokens: int = field(
        default=4,
        metadata={
            "help": "tokens that the inversion learns for the word",
            "min": 1,
            "needs": "inversion_steps",
        },
    )
    inversion_lr: float = field(
        default=1e-3,
        metadata={
            "help": "learning rate of the inversion",
            "above": 0.0,
            "needs": "inversion_steps",
        },
    )
    inversion_random_start: float | None = field(
        default=None,
        metadata={
            "help": "standard deviation of the random embeddings that tokens beyond the word's own "
            "start from (code: 1); if not given, they start from the word's own",
            "above": 0.0,
            "needs": "inversion_steps",
        },
    )
    inversion_weight_decay: float | None = field(
        default=None,
        metadata={
            "help": "weight decay of the inversion (code: 0.1); 0.01 if not given",
            "min": 0,
            "needs": "inversion_steps",
        },
    )
    inversion_norm: float | None = field(
        default=None,
        metadata={
            "help": "norm that each embedding is pulled towards after every step of the inversion "
            "(code: 0.4); unconstrained if not given",
            "above": 0.0,
            "needs": "inversion_steps",
        },
    )


def loss(probs: Mapping[str, Tensor], tokens: Tensor, squared: bool) -> Tensor:
    """The norm of the attention on the concept's tokens, a scalar.

    Args:
        probs: by layer, probabilities (B, heads, pixels, 77).
        tokens: bool (B, 77).
        squared: whether the norm is squared.
    """
    import torch

    mask = tokens[:, None, None, :]
    total = torch.stack([(p.float() * mask).square().sum() for p in probs.values()]).sum()
    # The root of zero has no gradient.
    return total if squared else (total + 1e-12).sqrt()


def check(config: Config, concepts: int) -> None:
    """See ``methods.Method``."""
    if config.inversion_steps and concepts > 1:
        raise UserError(
            "A textual inversion learns one concept: give one --concept, or --inversion-steps 0."
        )


def check_texts(
    config: Config, diffusion: Diffusion, texts: Mapping[str, Sequence[str]], words: Sequence[str]
) -> None:
    """See ``methods``: prompts that are too long with the learned tokens."""
    if config.inversion_steps:
        from erase.diffusion.inversion import slots_of

        slots_of(
            diffusion, texts["concept"], words[0], config.inversion_tokens, "--inversion-tokens"
        )


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: one branch with a gradient, in the inversion too."""
    return 3.0 * batch * (steps + config.inversion_steps)


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the masked weights of ``diffusion``, in place, until the concept is not attended to.

    Raises:
        UserError: a forget prompt without the concept's word.
    """
    ends = {"end": config.end_token, "every_end": config.every_end_token}
    if config.inversion_steps:
        from erase.diffusion.inversion import Search, invert

        search = Search(
            steps=config.inversion_steps,
            tokens=config.inversion_tokens,
            lr=config.inversion_lr,
            **ends,
            random_start=config.inversion_random_start,
            weight_decay=config.inversion_weight_decay,
            norm=config.inversion_norm,
        )
        learnt = invert(diffusion, data, search)
        data, tokens = replace(data, c=learnt.c), learnt.tokens
    else:
        tokens = diffusion.text.positions([c for c, _ in data.pairs], data.words, **ends)

    def step(index: int, part: slice) -> dict[str, Tensor]:
        b = data.draw("forget", index, part)
        probs = diffusion.attention_probs(b.x_t, b.t, b.c)
        return {"loss": loss(probs, tokens[b.prompt], config.norm == "squared")}

    fit(diffusion.denoiser, step)
