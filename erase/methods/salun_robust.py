"""SalUn with adversarial embeddings: the masked fine-tune, and embeddings that work against it.

A bank of embeddings v_j stands for the concept's word. Each step moves them towards bringing the
concept back, while the salient weights learn to answer them as the anchor too:

    v_j ← Adam(∇_v ‖ε_θ(x_t|c[v_j]) - ε_0(x_t|c)‖²)
    L(θ) = ‖ε_θ(x_t|c) - ε_0(x_t|c')‖² + β·‖ε_θ(x_t|c[v_j]) - ε_0(x_t|c')‖²
         + α·‖ε_θ(x_t^r|r) - ε_0(x_t^r|r)‖² + α'·‖ε_θ(x_t^r|[v_j; r]) - ε_0(x_t^r|r)‖²

ε_0 is the frozen base. One prediction serves v and θ, with a backward pass of its own each. The
last term is for embeddings before the prompt: it forbids the shortcut that an odd prefix means the
anchor. The saliency is summed over c and the embeddings that the bank starts from. See SalUn (Fan
et al., arXiv 2310.12508) for the rest, Receler (Huang et al., arXiv 2311.17717) and AdvUnlearn
(Zhang et al., arXiv 2405.15234) for adversarial prompts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from erase.methods import Needs
from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from erase.diffusion.adversarial import Bank
    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Fit

NEEDS = Needs(
    images=("forget", "retain"), word=True, text="looks for embeddings that ask for a word"
)
SPACE = {
    "lr": (0.1, 10.0),
    "alpha": [0.5, 1.0, 2.0, 4.0],
    "beta": [0.5, 1.0, 2.0],
    "steps": (0.3, 1.0),
}


@dataclass(frozen=True)
class Config:
    """The method's own settings."""

    alpha: float = field(default=1.0, metadata={"help": "weight α of the retain loss", "min": 0.0})
    beta: float = field(
        default=1.0, metadata={"help": "weight β of the loss on adversarial prompts", "min": 0.0}
    )
    bank: int = field(default=8, metadata={"help": "how many embeddings v_j", "min": 1})
    bank_tokens: int = field(
        default=1, metadata={"help": "tokens that each of them stands for", "min": 1}
    )
    bank_place: Literal["word", "before"] = field(
        default="word",
        metadata={"help": "where they stand: in place of the concept's word, or before the prompt"},
    )
    bank_lr: float = field(
        default=5e-3, metadata={"help": "learning rate of the embeddings", "above": 0.0}
    )
    bank_spread: float = field(
        default=0.5,
        metadata={
            "help": "noise that they start with, as a share of the standard deviation of the "
            "text encoder's embeddings",
            "min": 0.0,
        },
    )
    bank_restart: int = field(
        default=20,
        metadata={
            "help": "after how many steps one of them starts again, in turn; 0 for never",
            "unit": "steps",
            "min": 0,
        },
    )
    prefix_retain: float = field(
        default=0.0,
        metadata={
            "help": "weight α' of the retain loss with embeddings before the retained prompts",
            "min": 0.0,
        },
    )


def check(config: Config, concepts: int) -> None:
    """See ``methods``: a bank stands for one word."""
    if concepts > 1:
        raise UserError(
            "salun_robust searches embeddings of one concept: give one --concept, or --method "
            "salun."
        )
    if config.prefix_retain and config.bank_place == "word":
        raise UserError(
            "--prefix-retain has no effect with --bank-place word: leave it out, or give "
            "--bank-place before."
        )


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: three branches with a gradient, a backward pass for v, and three
    without; one of each more with prefixes on what is retained."""
    each = 3 * 3.0 + 2.0 + 3.0 + (4.0 if config.prefix_retain else 0.0)
    return each * batch * steps


def rows(config: Config, batch: int) -> int:
    """See ``methods``."""
    return batch * (4 if config.prefix_retain else 3)


def found(diffusion: Diffusion, data: TrainingData, config: Config) -> Conditioning:
    """See ``methods``: the prompts with the bank's embeddings before the first step."""
    import torch

    bank = _bank(diffusion, data, config)
    every = torch.arange(len(data.pairs))
    with torch.no_grad():
        return bank.embed(every, every % config.bank)


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the masked weights of ``diffusion``, in place, until c is answered as c', whatever
    stands for its word."""
    import torch
    from torch.nn.functional import mse_loss

    frozen, bank = diffusion.frozen(), _bank(diffusion, data, config)
    size = data.batch_size

    def step(index: int, part: slice) -> dict[str, Tensor]:
        b, r = data.batch(index, part)
        which = bank.which(index, size)[part]
        anchor = data.anchor_c[b.prompt]
        with torch.no_grad():
            a, revived, kept = frozen.predict_each(
                (b.x_t, b.t, anchor), (b.x_t, b.t, b.c), (r.x_t, r.t, r.c)
            )
        asked = [(b.x_t, b.t, b.c), (b.x_t, b.t, bank.embed(b.prompt, which)), (r.x_t, r.t, r.c)]
        if config.prefix_retain:
            asked.append((r.x_t, r.t, bank.embed(r.prompt + len(data.pairs), which)))
        e_c, e_v, e_r, *e_p = diffusion.predict_each(*asked)
        bank.push((e_v - revived).square().flatten(1).mean(1).sum() / size)
        forget, attacked = mse_loss(e_c, a), config.beta * mse_loss(e_v, a)
        retain = config.alpha * mse_loss(e_r, kept)
        for e in e_p:
            with torch.no_grad():
                same = frozen.predict(r.x_t, r.t, data.retain_c[r.prompt])
            retain = retain + config.prefix_retain * mse_loss(e, same)
        whole = forget + attacked + retain
        return {"loss": whole, "forget": forget + attacked, "retain": retain}

    fit(diffusion.denoiser, step, bank)


def _bank(diffusion: Diffusion, data: TrainingData, config: Config) -> Bank:
    from erase.diffusion.adversarial import Bank, Search

    search = Search(
        count=config.bank,
        tokens=config.bank_tokens,
        place=config.bank_place,
        lr=config.bank_lr,
        spread=config.bank_spread,
        restart=config.bank_restart,
    )
    prompts = [c for c, _ in data.pairs]
    if config.bank_place == "before":
        prompts += data.retain_prompts
    return Bank(diffusion, prompts, data.words[0], search, data.seed)
