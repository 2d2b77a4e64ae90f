"""SalUn with adversarial embeddings: the masked fine-tune, and embeddings that work against it.

A bank of embeddings v_j stands for the concept's word. Each step moves those it asks by towards
bringing the concept back, while the salient weights learn to answer them as the anchor; half of the
forget batch asks so, the other half for c itself. With ``relearn_lr`` half of the latter is asked
where somebody has begun to train c back: δ moves by relearning beside the training, and is 0 again
every so many steps.

    v_j ← Adam(∇_v ‖ε_θ(x_t|c[v_j]) - ε_0(x_t|c)‖²)
    δ ← Adam(∇_δ E‖ε - ε_{θ+δ}(x_t|c)‖²)
    L(θ) = ¼·‖ε_θ(x_t|c) - ε_0(x_t|c')‖² + ¼·‖ε_{θ+δ}(x_t|c) - ε_0(x_t|c')‖²
         + ½·‖ε_θ(x_t|c[v_j]) - ε_0(x_t|c')‖² + α·‖ε_θ(x_t^r|r) - ε_0(x_t^r|r)‖²
         + α'·‖ε_θ(x_t^r|[v_j; r]) - ε_0(x_t^r|r)‖²

ε_0 is the frozen base; δ counts as fixed (first order). One prediction serves v and θ, with a
backward pass of its own each. The last term is for embeddings before the prompt: it forbids the
shortcut that an odd prefix means the anchor. The saliency is summed over c and, of each prompt in
turn, one of the embeddings that the bank starts from. See SalUn (Fan et al., arXiv 2310.12508) for
the rest, Receler (Huang et al., arXiv 2311.17717) and AdvUnlearn (Zhang et al., arXiv 2405.15234)
for adversarial prompts.

With ``search_steps`` the embeddings are found before the training and stay where they are, one
after the other on what is left by a short remapping of c and those before it, which starts from the
base each time; so does the training (the search of STEREO, Srivatsan et al., arXiv 2408.16807):

    v_j = argmin_v E‖ε - ε_θj(x_t|c[v])‖²
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from erase.methods import Needs, salun
from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from erase.diffusion.adversarial import Bank
    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.ahead import Ahead
    from erase.unlearn.fit import Fit

    Asked = tuple[Tensor, Tensor, Conditioning]

NEEDS = Needs(
    images=("forget", "retain"), word=True, text="looks for embeddings that ask for a word"
)
SPACE = {
    "lr": (0.1, 10.0),
    "alpha": [0.5, 1.0, 2.0, 4.0],
    "bank_lr": (0.3, 3.0),
    "relearn_lr": (0.3, 3.0),
    "relearn_restart": [10, 20, 40],
    "steps": (0.3, 1.0),
}


@dataclass(frozen=True)
class Config:
    """The method's own settings."""

    alpha: float = field(default=1.0, metadata={"help": "weight of the retain loss", "above": 0.0})
    target: Literal["moving", "frozen"] = field(
        default="frozen",
        metadata={
            "help": "model that answers the anchor prompt: the one in training (as published) or a "
            "frozen copy of the base",
        },
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
            "without": "search_steps",
        },
    )
    prefix_retain: float = field(
        default=0.0,
        metadata={
            "help": "weight α' of the retain loss with embeddings before the retained prompts",
            "min": 0.0,
        },
    )
    search_steps: int = field(
        default=0,
        metadata={
            "help": "steps that optimize each embedding before the training, which then leaves it "
            "as it is; 0 optimizes them during the training instead",
            "unit": "steps",
            "min": 0,
        },
    )
    search_erase: int = field(
        default=100,
        metadata={
            "help": "steps of the short erasure that each embedding is searched against",
            "unit": "steps",
            "min": 1,
            "needs": "search_steps",
        },
    )
    relearn_lr: float = field(
        default=0.0,
        metadata={
            "help": "learning rate of weights that relearn the concept beside the training, which "
            "holds five more copies of the weights, and six with --micro-batch; 0 for none",
            "min": 0.0,
        },
    )
    relearn_restart: int = field(
        default=20,
        metadata={
            "help": "after how many steps relearning begins again",
            "unit": "steps",
            "min": 1,
            "needs": "relearn_lr",
        },
    )


def check(config: Config, concepts: int) -> None:
    """See ``methods``: a bank stands for one word."""
    if concepts > 1:
        raise UserError(
            "salun_robust searches embeddings of one concept: give one --concept, choose another "
            "--recipe, or erase each in a run of its own and add these up with erase combine."
        )
    if config.prefix_retain and config.bank_place == "word":
        raise UserError(
            "--prefix-retain has no effect with --bank-place word: leave it out, or give "
            "--bank-place before."
        )
    if config.prefix_retain and config.search_steps:
        raise UserError(
            "The search before the training has no term for retained prompts with embeddings: "
            "leave out --prefix-retain or --search-steps."
        )


def check_memory(config: Config) -> None:
    """See ``methods``: relearning's steps, which bf16 does not tell."""
    if config.relearn_lr:
        raise UserError(
            "bf16 can't represent the small steps of relearning: leave out --low-memory, or give "
            "--relearn-lr 0."
        )


def check_texts(
    config: Config, diffusion: Diffusion, texts: Mapping[str, Sequence[str]], words: Sequence[str]
) -> None:
    """See ``methods``: prompts that are too long with the embeddings."""
    _bank(diffusion, texts["concept"], texts["retained"], words[0], 0, config)


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: two branches with a gradient and two without, half a backward pass
    for v and half a branch for its aim; one of each more with prefixes on what is retained, and one
    with a gradient for relearning. A search takes SalUn's for each remapping and one with a
    gradient for each embedding, and leaves out what moves v in the training."""
    each = 2 * 3.0 + 2.0 + 1.0 + 0.5
    each += 4.0 * bool(config.prefix_retain) + 3.0 * bool(config.relearn_lr)
    before = 0.0
    if config.search_steps:
        each -= 1.5
        before = config.bank * (8.0 * config.search_erase + 3.0 * config.search_steps)
    return batch * (each * steps + before)


def rows(config: Config, batch: int) -> int:
    """See ``methods``."""
    return batch * (3 if config.prefix_retain else 2)


def held(config: Config) -> int:
    """See ``methods``: δ with its moments, the weights' own values and a gradient."""
    return 5 if config.relearn_lr else 0


def networks(config: Config) -> int:
    """See ``methods``: the model that embeddings are searched on."""
    return int(config.search_steps > 0)


def stored(config: Config) -> int:
    """See ``methods``: δ with its moments."""
    return 3 if config.relearn_lr else 0


def found(diffusion: Diffusion, data: TrainingData, config: Config) -> Conditioning:
    """See ``methods``: the prompts with the bank's embeddings before the first step."""
    import torch

    bank = _of(diffusion, data, config)
    every = torch.arange(len(data.pairs))
    with torch.no_grad():
        return bank.embed(every, every % config.bank)


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the masked weights of ``diffusion``, in place, until c is answered as c', whatever
    stands for its word."""
    from dataclasses import replace

    import torch
    from torch.nn.functional import mse_loss

    frozen, bank = diffusion.frozen(), _of(diffusion, data, config)
    size, moving = data.batch_size, not config.search_steps
    if not moving:
        _search(frozen, data, config, fit, bank)
    relearned = _relearning(diffusion, data, config, fit) if config.relearn_lr else None
    if relearned:
        fit = replace(fit, advice="lower --lr or --relearn-lr, or use --precision fp32")

    def step(index: int, part: slice) -> dict[str, Tensor]:
        b, r = data.batch(index, part)
        turns = (torch.arange(size) + index * size)[part]
        later = (turns % 4 == 2) & bool(relearned)
        kinds = (turns % 2 == 0) & ~later, turns % 2 == 1, later
        plain, own, ahead = (torch.where(kind)[0] for kind in kinds)
        which = turns // 2 % config.bank
        anchor, kept_as = (b.x_t, b.t, data.anchor_c[b.prompt]), (r.x_t, r.t, r.c)
        asked, attacked, there = ((b.x_t[i], b.t[i], b.c[i]) for i in (plain, own, ahead))
        aims = [attacked] if moving and len(own) else []
        a, kept, *revived = _answers(diffusion, frozen, config, anchor, kept_as, *aims)
        found, here = [], [asked] if len(plain) else []
        if relearned and len(ahead):  # before anything else reads the weights
            found.append(relearned.at(lambda: _squares(diffusion.predict(*there), a[ahead])))
        prompts = r.prompt + len(data.pairs)
        odd = [(r.x_t, r.t, bank.embed(prompts, which))] if config.prefix_retain else []
        e_r, *more = diffusion.predict_each(kept_as, *here, *odd)
        found += [_squares(e_c, a[plain]) for e_c in more[: len(here)]]
        if len(own):
            # By itself: v's backward pass goes through no other rows.
            e_v = diffusion.predict(*attacked[:2], bank.embed(b.prompt[own], which[own]))
            for aim in revived:
                bank.push(_squares(e_v, aim) / size)
            found.append(_squares(e_v, a[own]))
        retain = config.alpha * mse_loss(e_r, kept)
        for e_p in more[len(here) :]:
            with torch.no_grad():
                same = frozen.predict(r.x_t, r.t, data.retain_c[r.prompt])
            retain = retain + config.prefix_retain * mse_loss(e_p, same)
        forget = torch.stack(found).sum() / len(b.t)
        return {"loss": forget + retain, "forget": forget, "retain": retain}

    beside = (bank if moving else None, relearned)
    fit(diffusion.denoiser, step, *(other for other in beside if other is not None))


def _answers(
    diffusion: Diffusion, frozen: Diffusion, config: Config, anchor: Asked, *others: Asked
) -> tuple[Tensor, ...]:
    """Of the target at the anchor, and of the base at the others."""
    import torch

    with torch.no_grad():
        if config.target == "frozen":
            return frozen.predict_each(anchor, *others)
        return (diffusion.predict(*anchor), *frozen.predict_each(*others))


def _squares(e: Tensor, a: Tensor) -> Tensor:
    """Σ ‖e_i - a_i‖² over the rows, each a mean over what it holds."""
    return (e - a).square().flatten(1).mean(1).sum()


def _of(diffusion: Diffusion, data: TrainingData, config: Config) -> Bank:
    asked = [c for c, _ in data.pairs]
    return _bank(diffusion, asked, data.retain_prompts, data.words[0], data.seed, config)


def _bank(
    diffusion: Diffusion,
    asked: Sequence[str],
    retained: Sequence[str],
    word: str,
    seed: int,
    config: Config,
) -> Bank:
    from erase.diffusion.adversarial import Bank, Search

    search = Search(
        count=config.bank,
        tokens=config.bank_tokens,
        place=config.bank_place,
        lr=config.bank_lr,
        spread=config.bank_spread,
        restart=config.bank_restart,
    )
    prompts = [*asked, *(retained if config.prefix_retain else ())]
    return Bank(diffusion, prompts, word, search, seed)


def _search(base: Diffusion, data: TrainingData, config: Config, fit: Fit, bank: Bank) -> None:
    """Finds the bank's embeddings, which learn nothing more afterwards."""
    from functools import partial

    width = len(range(data.batch_size)[fit.parts[0]])
    remapped = partial(_remapped, base, data, config, fit, bank)
    # Removed with the training's checkpoints, and told apart by their keys.
    place, autocast = fit.folder / "checkpoints", fit.accelerator.autocast
    bank.find(remapped, data, config.search_steps, width, place, fit.key, autocast)


def _remapped(
    base: Diffusion,
    data: TrainingData,
    config: Config,
    fit: Fit,
    bank: Bank,
    known: int,
    place: Path,
    key: str,
) -> Diffusion:
    """The base after a short SalUn with frozen targets on c and the first ``known`` embeddings,
    which take turns among the rows."""
    from dataclasses import replace

    import torch

    from erase.diffusion.conditioning import where

    model, size = base.frozen(), data.batch_size

    def step(index: int, part: slice) -> dict[str, Tensor]:
        b, r = data.batch(index, part)
        turn = ((torch.arange(size) + index * size) % (known + 1))[part]
        with torch.no_grad():
            c = where(turn == known, b.c, bank.embed(b.prompt, turn))
        forget, retain = salun.loss(
            model,
            replace(b, c=c),
            data.anchor_c[b.prompt],
            r,
            alpha=config.alpha,
            anchor_model=base,
            retain_model=base,
        )
        return {"loss": forget + retain, "forget": forget, "retain": retain}

    settings = replace(fit.settings, steps=config.search_erase)
    short = replace(fit, settings=settings, folder=place, key=key, masters={}, watch=None)
    replace(short, title=f"remapping {known + 1}")(model.denoiser, step)
    return model


def _relearning(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> Ahead:
    """δ over all weights of the scope, as whoever relearns is bound by no mask."""
    from functools import partial

    import torch
    from torch.nn.functional import mse_loss

    from erase.unlearn.ahead import Ahead

    own = fit.mask.drawn_from()
    params = {n: p for n, p in diffusion.denoiser.named_parameters() if n in own}
    if any(p.dtype != torch.float32 for p in params.values()):
        check_memory(config)
    size = data.batch_size

    def denoising(index: int, part: slice) -> Tensor:
        b = data.draw("forget", index, part, purpose="relearn")
        with fit.accelerator.autocast():
            return mse_loss(diffusion.predict(b.x_t, b.t, b.c), b.target) * len(b.t) / size

    def losses(index: int) -> Sequence[Callable[[], Tensor]]:
        return [partial(denoising, index, part) for part in fit.parts]

    return Ahead(params, losses, config.relearn_lr, config.relearn_restart)
