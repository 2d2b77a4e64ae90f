"""A few learned words before the prompt (UnlearnDiffAtk, Zhang et al., arXiv 2310.11868).

For a prompt p whose image x_0 the base made, with the row's own seed,

    min over u  E ‖ε - ε_θ(x_t, [u; p])‖²,    u = k rows on the probability simplex of the tokens,

in the model's own prediction space (v, where it predicts that). As in the authors' code u starts
uniform; a step draws tokens from u, whose gradient goes straight through to u, cut off at ±1;
Adam's decay is added to it; then each row is projected onto the simplex. Timesteps come from low
noise to high. After each, the likeliest tokens are written as text, read again, and an image with
the row's seed is shown to the judge: the first that it takes for the concept ends the row.

Otherwise than there, only tokens that can be typed are drawn (``_text.typed``), so that reading
them again changes nothing; and ``chosen`` compares the prompts up to the end of the row by the loss
of what was read, at a few pairs (t, ε) that are the same for all, since losses at different t can't
be compared. As a hit ends the row, that flatters a little what the loss alone would choose. Random
search draws prefixes uniformly; it has no loss, and its ``chosen`` are its first images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import hardtanh

from erase.diffusion.tokens import encode, read
from erase.eval.attacks import SUCCESS, Found
from erase.eval.attacks._images import anew, draw, latents, price, told
from erase.eval.attacks._simplex import pick, project
from erase.eval.attacks._text import spell, text_of, typed, without
from erase.images.make import batches
from erase.runtime.progress import each, progress

if TYPE_CHECKING:
    from erase.diffusion.conditioning import Conditioning
    from erase.diffusion.model import Diffusion
    from erase.diffusion.text import Text
    from erase.eval.attacks import Size, Target
    from erase.images.request import Request

TEXT = True
PROBES = 5
"""Most pairs (t, ε) at which the prompts of a row are compared."""


@dataclass(frozen=True)
class Settings:
    """What the attack spends.

    Attributes:
        tokens: k >= 1.
        timesteps: that are gone through, each with an image of the row, >= 1.
        iterations: at each timestep, >= 1.
        lr: of Adam.
        weight_decay: of Adam, added to the gradient.
        bare: k where the concept is nudity; None takes ``tokens``.
    """

    tokens: int
    timesteps: int
    iterations: int
    lr: float = 0.01
    weight_decay: float = 0.1
    bare: int | None = None

    @property
    def probes(self) -> int:
        """Pairs (t, ε) at which the prompts of a row are compared."""
        return min(PROBES, self.timesteps)

    def forwards(self, one: int) -> int:
        """Images through the denoiser for a row that no image ends, of which each costs ``one``."""
        return one + self.timesteps * (3 * self.iterations + self.probes + one)


SETTINGS: dict[Size, Settings] = {
    "quick": Settings(tokens=3, timesteps=5, iterations=10),
    "full": Settings(tokens=3, timesteps=10, iterations=20),
    "published": Settings(tokens=3, timesteps=50, iterations=40, bare=5),
}


@dataclass(frozen=True, eq=False)
class _Try:
    """A prompt with its image, the judge's probability, and the attack's own loss."""

    prompt: str
    image: NDArray[np.uint8]
    p: float
    loss: float


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: torch.Generator,
) -> Found:
    """See ``Attack``; random search judges as many images as the attack's forwards would pay for.

    Raises:
        DoesNotApply: the model has no text encoder.
    """
    text = text_of(model)
    if settings.bare is not None and target.concept.kind == "nudity":
        settings = replace(settings, tokens=settings.bare)
    known = typed(text) if target.named else without(typed(text), text, target.concept)
    vocabulary = torch.tensor(list(known))
    tries: list[list[_Try]] = []
    spent = 0
    groups = list(
        zip(
            batches(target.rows, target.batch),
            batches(target.pictured, target.batch),
            strict=True,
        )
    )
    for rows, pictured in each(groups, progress("prefixes", len(groups), "group")):
        if random:
            found, cost = guess(model, target, rows, settings, vocabulary, generator)
        else:
            x_0, cost = latents(base, pictured, target)
            spent += cost
            found, cost = learn(model, target, rows, x_0, settings, vocabulary, generator)
        tries += found
        spent += cost
    best = [max(row, key=lambda one: one.p) for row in tries]
    prompts = [one.prompt for one in best]
    fresh, cost = anew(model, prompts, random, target)
    return Found(
        images=[one.image for one in best],
        forwards=spent + cost,
        chosen=[min(row, key=lambda one: one.loss).image for row in tries],
        fresh=fresh,
        prompts=prompts,
        tokens=read(text, prompts),
    )


def learn(
    model: Diffusion,
    target: Target,
    rows: Sequence[Request],
    x_0: Tensor,
    settings: Settings,
    vocabulary: Tensor,
    generator: torch.Generator,
) -> tuple[list[list[_Try]], int]:
    """The tries of each of B rows of one size, in order, and the images through the denoiser.

    Args:
        model, target, settings, generator: see ``run``.
        rows: at most a batch.
        x_0: (B, C, h, w) of the base's image of each.
        vocabulary: ids (V,) of the tokens to choose from.
    """
    text = model.text
    bodies = read(text, [row.prompt for row in rows])
    spent = 0
    tables = [e.get_input_embeddings().weight.detach() for _, e in text.encoders]
    tables = [table[vocabulary.to(table.device)].to(x_0) for table in tables]
    u = x_0.new_full((len(rows), settings.tokens, len(vocabulary)), 1 / len(vocabulary))
    each_u = list(u)  # a tensor for each row, so that one that has ended is left alone
    adam = torch.optim.Adam(each_u, lr=settings.lr, weight_decay=settings.weight_decay)
    probes = [(noise_like(x_0, generator), t) for t in times(model.timesteps, settings.probes)]
    tries: list[list[_Try]] = [[] for _ in rows]
    for t in times(model.timesteps, settings.timesteps):
        left = open_rows(tries)
        if not left:
            break
        x = x_0[left]
        for _ in range(settings.iterations):
            picked = pick(u[left], generator)
            words = vocabulary[picked.cpu()].tolist()
            asked = [[*own, *bodies[i]] for own, i in zip(words, left, strict=True)]
            noise = noise_like(x, generator)
            slopes = slope(model, asked, picked, tables, x, noise, t)
            for i, own in zip(left, slopes, strict=True):
                each_u[i].grad = own
            adam.step()
            adam.zero_grad()
            u[left] = project(u[left])
        likely = vocabulary[u[left].argmax(-1).cpu()].tolist()
        still = [rows[i] for i in left]
        prompts = [before(text, own, row) for own, row in zip(likely, still, strict=True)]
        with torch.no_grad():
            c = model.embed(prompts)
            own_loss = torch.stack([losses(model, c, x, e[left], at) for e, at in probes]).mean(0)
        found, cost = show(model, target, still, prompts, own_loss.tolist())
        spent += cost + len(left) * (3 * settings.iterations + len(probes))
        for i, one in zip(left, found, strict=True):
            tries[i].append(one)
    return tries, spent


def guess(
    model: Diffusion,
    target: Target,
    rows: Sequence[Request],
    settings: Settings,
    vocabulary: Tensor,
    generator: torch.Generator,
) -> tuple[list[list[_Try]], int]:
    """As ``learn``, with tokens drawn uniformly; rows that nothing ends cost at least as much."""
    one = price(rows[0], target.sampler)
    tries: list[list[_Try]] = [[] for _ in rows]
    spent = 0
    for _ in range(math.ceil(settings.forwards(one) / one)):
        left = open_rows(tries)
        if not left:
            break
        drawn = torch.randint(len(vocabulary), (len(left), settings.tokens), generator=generator)
        still = [rows[i] for i in left]
        words = vocabulary[drawn].tolist()
        prompts = [before(model.text, own, row) for own, row in zip(words, still, strict=True)]
        found, cost = show(model, target, still, prompts, [0.0] * len(left))
        spent += cost
        for i, one_try in zip(left, found, strict=True):
            tries[i].append(one_try)
    return tries, spent


def slope(
    model: Diffusion,
    asked: Sequence[Sequence[int]],
    picked: Tensor,
    tables: Sequence[Tensor],
    x_0: Tensor,
    noise: Tensor,
    t: int,
) -> Tensor:
    """The gradient (B, k, V) of each row's own loss for the weights u of every token.

    At the tokens drawn, straight through their draw, and cut off at ±1.

    Args:
        model: what is attacked; no gradient is left at its weights.
        asked: token ids of the B prompts, of which k are drawn ones in front.
        picked: those (B, k), by their numbers in the vocabulary.
        tables: the vocabulary's input embeddings (V, d) for each text encoder.
        x_0, noise: (B, C, h, w).
        t: timestep.
    """
    v = [table[picked].requires_grad_() for table in tables]
    value = losses(model, encode(model.text, asked, v), x_0, noise, t).sum()
    slopes = torch.autograd.grad(value, v)
    # What d loss/d v is along each token's embedding.
    along = [own @ table.T for own, table in zip(slopes, tables, strict=True)]
    return hardtanh(torch.stack(along).sum(0))


def losses(model: Diffusion, c: Conditioning, x_0: Tensor, noise: Tensor, t: int) -> Tensor:
    """‖ε - ε_θ(x_t, c)‖² of each row, (B,), averaged over the latent; or of v."""
    at = torch.full((len(x_0),), t, device=x_0.device)
    predicted = model.predict(model.add_noise(x_0, noise, at), at, c)
    return (predicted - model.target(x_0, noise, at)).square().flatten(1).mean(1)


def times(most: int, count: int) -> list[int]:
    """Timesteps amid ``count`` equal parts of [0, ``most``), from low noise to high."""
    return [(2 * i + 1) * most // (2 * count) for i in range(count)]


def noise_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise, drawn where the generator is."""
    return torch.randn(x.shape, generator=generator).to(x)


def before(text: Text, ids: Sequence[int], row: Request) -> str:
    """A row's prompt after some tokens."""
    return f"{spell(text, ids)} {row.prompt}"


def open_rows(tries: Sequence[Sequence[_Try]]) -> list[int]:
    """The rows of which no image is one of the concept yet."""
    return [i for i, row in enumerate(tries) if not row or row[-1].p < SUCCESS]


def show(
    model: Diffusion,
    target: Target,
    rows: Sequence[Request],
    prompts: Sequence[str],
    own: Sequence[float],
) -> tuple[list[_Try], int]:
    """The rows with other prompts before the judge, and the images through the denoiser."""
    images, spent = draw(model, told(rows, prompts), target)
    seen = zip(prompts, images, target.judge(images), own, strict=True)
    return [_Try(*one) for one in seen], spent
