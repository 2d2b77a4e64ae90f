"""Words whose embedding is pushed towards the concept (Ring-A-Bell, Tsai et al., arXiv 2310.10012).

The base's text encoder E alone is looked at, no image. The concept's direction is the mean over its
templates

    ĉ = mean (E(with its word) - E(without it)),

and for a row's prompt p a genetic search over strings s of K tokens minimises

    F(s) = Σ ‖E(s) - E(p) - η ĉ‖²,

over all 77 positions, start and padding included. As in the authors' code the better half of a
population lives on, each of it has two children by a one-point crossover with the crossover rate,
and each one then has one token replaced with the mutation rate. The best string of all generations
is kept here, which mutation may lose there. Only tokens that can be typed take part, and none of
the concept's own words. Random search draws strings without looking at F.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from erase.diffusion.tokens import read
from erase.eval.attacks import Found
from erase.eval.attacks._images import anew, draw, told
from erase.eval.attacks._text import hidden, spell, text_of, typed, without
from erase.runtime import seeding
from erase.runtime.files import cache_folder, digest, write_json
from erase.runtime.fingerprint import fingerprint
from erase.runtime.progress import each, progress

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.diffusion.text import Text
    from erase.eval.attacks import Size, Target
    from erase.prompts.concept import Concept

TEXT = True


@dataclass(frozen=True)
class Settings:
    """What the search spends.

    Attributes:
        population: strings of the first generation, and about as many of the others, >= 2.
        generations: >= 1.
        tokens: K in [1, 75].
        mutation: probability in [0, 1] that a string has one of its tokens replaced.
        crossover: probability in [0, 1] that a survivor has two children.
        eta: strength η of the concept's direction.
    """

    population: int
    generations: int
    tokens: int = 16
    mutation: float = 0.25
    crossover: float = 0.5
    eta: float = 3.0


STRINGS = 1
"""Number of the search's rules: strings that were found by others are searched again."""
SETTINGS: dict[Size, Settings] = {
    "quick": Settings(population=50, generations=60),
    "full": Settings(population=200, generations=300),
    "published": Settings(population=200, generations=3000),
}


def run(
    model: Diffusion,
    base: Diffusion,
    target: Target,
    settings: Settings,
    random: bool,
    generator: torch.Generator,
) -> Found:
    """See ``Attack``; the search costs no image through the denoiser.

    Raises:
        DoesNotApply: the model has no text encoder.
    """
    text_of(model)
    # Who can only type does not have the text encoder that an erasure may have changed.
    text = text_of(base)
    vocabulary = torch.tensor(list(without(typed(text), text, target.concept)))
    if random:
        drawn = _strings(len(target.rows), settings, vocabulary, generator)
        found = vocabulary[drawn].tolist()
    else:
        found = strings(base, target, settings, vocabulary)
    prompts = [spell(text, ids) for ids in found]
    images, spent = draw(model, told(target.rows, prompts), target)
    fresh, again = anew(model, prompts, random, target)
    return Found(images, spent + again, fresh=fresh, prompts=prompts, tokens=read(text, prompts))


def strings(
    base: Diffusion, target: Target, settings: Settings, vocabulary: Tensor
) -> list[list[int]]:
    """The string of each row; searched for once for each text encoder, whatever is attacked."""
    text = base.text
    own = read(text, [row.prompt for row in target.rows])
    prints = [fingerprint(encoder) for _, encoder in text.encoders]
    asked = [own, target.concept.prompts(), target.concept.fill(""), vocabulary.tolist()]
    key = digest([STRINGS, prints, repr(settings), asked])
    file = cache_folder() / "strings" / f"{key[:16]}.json"
    if file.is_file():
        kept: list[list[int]] = json.loads(file.read_text(encoding="utf-8"))
        return kept
    shift = settings.eta * direction(text, target.concept)
    bar = progress("strings", len(own), "prompt")
    found = []
    for i, ids in enumerate(each(own, bar)):
        goal = _mean(text, [ids]) + shift
        found.append(search(text, goal, settings, vocabulary, seeding.generator(0, "string", i)))
    write_json(file, found)
    return found


def direction(text: Text, concept: Concept) -> Tensor:
    """ĉ, (77, D): what the concept's word adds to its templates, on average."""
    bare = [" ".join(prompt.split()) for prompt in concept.fill("")]
    return _mean(text, read(text, concept.prompts())) - _mean(text, read(text, bare))


def fitness(text: Text, strings: Sequence[Sequence[int]], goal: Tensor) -> Tensor:
    """F(s) (N,) of each string of token ids, for a goal E(p) + η ĉ (77, D); less is better."""
    found = [(part - goal).square().sum((1, 2)) for part in hidden(text, strings)]
    return torch.cat(found).cpu()


def search(
    text: Text,
    goal: Tensor,
    settings: Settings,
    vocabulary: Tensor,
    generator: torch.Generator,
) -> list[int]:
    """The token ids of the fittest string that was met.

    Args:
        text: the text encoders.
        goal: E(p) + η ĉ, (77, D).
        settings: of the search.
        vocabulary: ids (V,) of the tokens to choose from.
        generator: of every draw.
    """
    strings = _strings(settings.population, settings, vocabulary, generator)
    scores = torch.full((len(strings),), torch.nan)
    best, least = strings[0], torch.inf
    for generation in range(settings.generations):
        # Who lives on unchanged is known already.
        if (new := scores.isnan()).any():
            scores[new] = fitness(text, vocabulary[strings[new]].tolist(), goal)
        order = scores.argsort(stable=True)[: max(1, settings.population // 2)]
        strings, scores = strings[order], scores[order]
        if scores[0] < least:
            best, least = strings[0].clone(), float(scores[0])
        if generation + 1 < settings.generations:
            strings, scores = breed(strings, scores, settings, len(vocabulary), generator)
    return list(vocabulary[best].tolist())


def breed(
    strings: Tensor,
    scores: Tensor,
    settings: Settings,
    size: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The next generation: survivors and their children, some of both with one token replaced.

    Args:
        strings: of the survivors, numbers of tokens (N, K).
        scores: theirs (N,).
        settings: of the search.
        size: tokens to choose from.
        generator: of every draw.

    Returns:
        Strings (M, K) and their scores (M,), NaN where a string is new.
    """
    count, length = strings.shape
    parents = torch.rand(count, generator=generator) < settings.crossover
    partners = torch.randint(count, (count,), generator=generator)
    points = torch.randint(length, (count, 1), generator=generator)
    head = (torch.arange(length) < points)[parents]
    own, other = strings[parents], strings[partners][parents]
    children = [torch.where(head, own, other), torch.where(head, other, own)]
    strings = torch.cat([strings, *children])
    scores = torch.cat([scores, scores.new_full((len(strings) - count,), torch.nan)])
    mutant = torch.rand(len(strings), generator=generator) < settings.mutation
    places = torch.randint(length, (len(strings),), generator=generator)
    values = torch.randint(size, (len(strings),), generator=generator)
    strings[mutant, places[mutant]] = values[mutant]
    scores[mutant] = torch.nan
    return strings, scores


def _strings(
    count: int, settings: Settings, vocabulary: Tensor, generator: torch.Generator
) -> Tensor:
    return torch.randint(len(vocabulary), (count, settings.tokens), generator=generator)


def _mean(text: Text, rows: Sequence[Sequence[int]]) -> Tensor:
    """The mean hidden states (77, D) of prompts of given tokens."""
    return torch.stack([part.sum(0) for part in hidden(text, rows)]).sum(0) / len(rows)
