"""AdvUnlearn (Zhang et al., arXiv 2405.15234): trains the text encoder under attack.

    L(θ) = MSE(ε(x_t|c_θ(v*, p)), ε(x_t|∅) - η·(ε(x_t|c) - ε(x_t|∅)))
           + γ·MSE(ε(x_t^r|c_θ(r)), ε(x_t^r|c^r))
    v*   = argmin_v MSE(ε(x_t|c_θ(v, p)), ε(x_t|c))

ε is the denoiser, which stays the base's; c_θ is the text encoder in training, θ its layers without
the embeddings; c, c^r and ∅ are the base's embedded prompts. v are input embeddings of tokens that
stand before the concept's prompt p, found anew in every step from a random word, by Adam. Retained
prompts r keep their predictions. As in ESD, x_t is denoised by the base from pure noise to a random
one of the sampler's steps, so that no images are needed, and t is drawn above it (see ``esd``).

Other than in the published code, the attack's gradients don't add up from step to step, a prompt is
as long as its tokens (there as its words), and t lies next to x_t's own level (there one interval
above). ``attack_x_t = "once"`` is new; it saves most of what an attack costs. The published
iteration has one prompt, and its first attack comes at a step, here after a share of them.

Whoever loads the base's text encoder undoes the erasure: see the attack ``stock_encoder``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Literal

from erase.methods import Needs, esd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch
    from torch import Tensor

    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.diffusion.text import Text
    from erase.unlearn.fit import Fit

NEEDS = Needs(
    images=(),
    anchor=False,
    text="trains the text encoder",
    scope="text-layers",
    part="text_encoder",
)
SPACE = {"lr": (0.1, 10.0), "gamma": [0.1, 0.3, 1.0], "steps": (0.3, 1.0)}


@dataclass(frozen=True)
class Config:
    """AdvUnlearn's own settings."""

    eta: float = field(
        default=1.0, metadata={"help": "strength η of the negative guidance", "min": 0.0}
    )
    gamma: float = field(default=0.3, metadata={"help": "weight γ of the retain loss", "min": 0.0})
    retain_batch: int = field(
        default=5, metadata={"help": "retained prompts for each prompt of the concept", "min": 1}
    )
    attack_from: float = field(
        default=0.2,
        metadata={
            "help": "share of the steps that come before the first attack",
            "min": 0.0,
            "max": 1.0,
        },
    )
    attack_tokens: int = field(
        default=1, metadata={"help": "embeddings that an attack puts before the prompt", "min": 1}
    )
    attack_steps: int = field(
        default=30, metadata={"help": "optimisation steps of each attack", "min": 1}
    )
    attack_lr: float = field(
        default=1e-3, metadata={"help": "learning rate of the attack", "above": 0.0}
    )
    attack_x_t: Literal["each", "once"] = field(
        default="each",
        metadata={
            "help": "when an attack denoises x_t: for each of its steps (as published) or once"
        },
    )
    x_t_steps: int = field(default=50, metadata={"help": "steps of x_t's sampler", "min": 1})
    x_t_guidance: float = field(
        default=3.0, metadata={"help": "guidance scale of x_t's sampler; 1 for none", "min": 1.0}
    )


def check_model(config: Config, diffusion: Diffusion) -> None:
    """See ``methods``: x_t's sampler."""
    diffusion.family.check_sampling(config.x_t_steps, "ddim", "--x-t-steps")


def check_texts(
    config: Config, diffusion: Diffusion, texts: Mapping[str, Sequence[str]], words: Sequence[str]
) -> None:
    """See ``methods``: prompts that are too long with the attack's embeddings."""
    from erase.diffusion.tokens import check_length

    check_length(
        diffusion.text,
        texts["concept"],
        config.attack_tokens,
        "lower --attack-tokens, or shorten it",
    )


def rows(config: Config, batch: int) -> int:
    """See ``methods``: the concept's prompts and those retained for them."""
    return batch * (1 + config.retain_batch)


def forwards(config: Config, steps: int, batch: int) -> float:
    """See ``methods.Method``: a branch with a gradient and three without for the concept, one of
    each for what is retained, x_t's sampler for both, and the attacks."""
    sampling = (config.x_t_steps - 1) / 2 * (2 if config.x_t_guidance > 1 else 1)
    trained = 6.0 + sampling + config.retain_batch * (4.0 + sampling)
    drawn = config.attack_steps if config.attack_x_t == "each" else 1
    attacked = drawn * (sampling + 1.0) + 3.0 * config.attack_steps
    return batch * steps * (trained + (1 - config.attack_from) * attacked)


def loss(
    diffusion: Diffusion,
    b: tuple[Tensor, Tensor, Conditioning],
    c_b: Conditioning,
    r: tuple[Tensor, Tensor, Conditioning],
    c_r: Conditioning,
    empty: Conditioning,
    *,
    eta: float,
    gamma: float,
) -> tuple[Tensor, Tensor]:
    """The two terms of L(θ), the second already weighted by γ.

    Args:
        diffusion: with the base's denoiser.
        b, r: of the concept's and of retained prompts x_t (B, C, h, w), t (B,) and the base's c.
        c_b, c_r: the same prompts as c_θ embeds them, the concept's after v*; with graph.
        empty: the base's ∅, as many rows as ``b``.
        eta, gamma: η and γ, >= 0.

    Returns:
        Scalars (forget, γ·retain).
    """
    import torch
    from torch.nn.functional import mse_loss

    wanted = esd.target(diffusion, *b, empty, empty, eta)
    with torch.no_grad():
        same = diffusion.predict(*r)
    e_b, e_r = diffusion.predict_each((*b[:2], c_b), (*r[:2], c_r))
    return mse_loss(e_b, wanted), gamma * mse_loss(e_r, same)


def slopes(
    diffusion: Diffusion,
    prompts: Sequence[Sequence[int]],
    v: Sequence[Tensor],
    x_t: Tensor,
    t: Tensor,
    wanted: Tensor,
) -> list[Tensor]:
    """The gradient of each row's own MSE(ε(x_t|c_θ(v, p)), ε(x_t|c)) for its embeddings v.

    Args:
        diffusion: the model in training; no gradient is left at its weights.
        prompts: token ids of the B prompts [v; p], of which k stand for v.
        v: (B, k, d) for each text encoder.
        x_t, t: noisy latents (B, C, h, w) and their timesteps (B,).
        wanted: ε(x_t|c), (B, C, h, w).
    """
    import torch

    from erase.diffusion.tokens import encode

    asked = [own.detach().requires_grad_() for own in v]
    predicted = diffusion.predict(x_t, t, encode(diffusion.text, prompts, asked))
    each = (predicted - wanted).square().flatten(1).mean(1)
    return list(torch.autograd.grad(each.sum(), asked))


def attack(
    diffusion: Diffusion,
    prompts: Sequence[Sequence[int]],
    v: Sequence[Tensor],
    c: Conditioning,
    draw: Callable[[int], tuple[Tensor, Tensor]],
    *,
    steps: int,
    lr: float,
) -> list[Tensor]:
    """v*, (B, k, d) for each text encoder.

    Args:
        diffusion, prompts: see ``slopes``.
        v: what the search starts from.
        c: the prompts p as the base embeds them.
        draw: x_t and t of a step's number.
        steps: >= 1.
        lr: of Adam.
    """
    import torch

    found = [own.clone() for own in v]
    adam = torch.optim.Adam(found, lr=lr)
    known: tuple[Tensor, ...] = ()
    for number in range(steps):
        x_t, t = draw(number)
        if not known or known[0] is not x_t:
            with torch.no_grad():
                known = (x_t, diffusion.predict(x_t, t, c))
        slope = slopes(diffusion, prompts, found, x_t, t, known[1])
        for own, new in zip(found, slope, strict=True):
            own.grad = new
        adam.step()
    return [own.detach() for own in found]


def denoised(
    diffusion: Diffusion,
    c: Conditioning,
    empty: Conditioning,
    noise: Tensor,
    g: torch.Generator,
    *,
    steps: int,
    guidance: float,
) -> tuple[Tensor, Tensor]:
    """x_t (B, C, h, w) at one random level of a sampler, and its times t (B,).

    Args:
        diffusion: whose denoiser, which is the base's, denoises.
        c, empty: the base's embedded prompts (B rows) and ∅ (one row).
        noise: standard normal (B, C, h, w).
        g: of the level and of t.
        steps, guidance: of the sampler.
    """
    import torch

    done = int(torch.randint(steps, (), generator=g))
    x_t, t, gap = diffusion.denoise_to(
        done, c, empty.repeat(len(c)), steps=steps, guidance=guidance, noise=noise
    )
    return x_t, t + torch.randint(gap, (), generator=g).to(t.device)


def erase(diffusion: Diffusion, data: TrainingData, config: Config, fit: Fit) -> None:
    """Moves the text encoders' layers, in place, away from the concept, attacked or not."""
    import torch

    from erase.diffusion.conditioning import join
    from erase.diffusion.tokens import encode, read
    from erase.runtime.seeding import cycle, generator

    text, size, each, seed = diffusion.text, data.batch_size, config.retain_batch, data.seed
    asked, retained = read(text, [c for c, _ in data.pairs]), read(text, data.retain_prompts)
    words, first = torch.tensor(_words(text)), config.attack_from * fit.settings.steps

    def level(c: Conditioning, noise: Tensor, g: torch.Generator) -> tuple[Tensor, Tensor]:
        steps, guidance = config.x_t_steps, config.x_t_guidance
        return denoised(diffusion, c, data.empty_c, noise, g, steps=steps, guidance=guidance)

    def attacked(
        index: int, part: slice, prompts: Sequence[Sequence[int]], c: Conditioning
    ) -> tuple[list[list[int]], list[Tensor]]:
        """The prompts after the words that the search starts from, and v* in place of these."""
        g = generator(seed, "adv-unlearn", index, "word")
        drawn = words[torch.randint(len(words), (size, config.attack_tokens), generator=g)][part]
        longer = [[*own, *p] for own, p in zip(drawn.tolist(), prompts, strict=True)]
        tables = [encoder.get_input_embeddings().weight.detach() for _, encoder in text.encoders]
        start = [table[drawn.to(table.device)].float() for table in tables]

        @cache
        def at(number: int) -> tuple[Tensor, Tensor]:
            g = generator(seed, "adv-unlearn", index, "attack", number)
            return level(c, diffusion.draw_noise(size, g, data.size)[part], g)

        draw = at if config.attack_x_t == "each" else lambda _: at(0)
        steps, lr = config.attack_steps, config.attack_lr
        return longer, attack(diffusion, longer, start, c, draw, steps=steps, lr=lr)

    def step(index: int, part: slice) -> dict[str, Tensor]:
        turn = (torch.arange(index * size, (index + 1) * size) % len(asked))[part]
        kept = cycle(len(retained), size * each, index, seed, "adv-unlearn")
        kept = kept.view(size, each)[part].flatten()
        c, c_r = data.c[turn], data.retain_c[kept]
        prompts: Sequence[Sequence[int]] = [asked[i] for i in turn]
        v: Sequence[Tensor] = ()
        if index >= first:
            prompts, v = attacked(index, part, prompts, c)
        g = generator(seed, "adv-unlearn", index)
        noise = diffusion.draw_noise(size * (1 + each), g, data.size)
        theirs = noise[size:].unflatten(0, (size, each))[part].flatten(0, 1)
        drawn = level(join([c, c_r]), torch.cat([noise[:size][part], theirs]), g)
        (x_t, x_r), (t, t_r) = (x.split([len(c), len(c_r)]) for x in drawn)
        forget, retain = loss(
            diffusion,
            (x_t, t, c),
            encode(text, prompts, v),
            (x_r, t_r, c_r),
            encode(text, [retained[i] for i in kept]),
            data.empty_c.repeat(len(c)),
            eta=config.eta,
            gamma=config.gamma,
        )
        return {"loss": forget + retain, "forget": forget, "retain": retain}

    fit(diffusion.part("text_encoder"), step)


def _words(text: Text) -> list[int]:
    """The tokens but those that start, end or fill up a prompt."""
    special = {i for t, _ in text.encoders for i in (*t.all_special_ids, t.pad_token_id)}
    return sorted(set(text.tokenizer.get_vocab().values()) - special)
