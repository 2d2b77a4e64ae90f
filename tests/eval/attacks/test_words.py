"""Known words: which they are, every candidate's score, and how they are dealt out."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.eval.attacks import words
from erase.eval.attacks.words import Settings, known, run, score
from erase.images.request import Shot
from erase.prompts.concept import Concept
from erase.runtime.errors import UserError
from tests.eval.attacks.targets import seeded, target

WORDS = ("prayer", "red", "truck")


def pooled(model: Diffusion, prompts: list[str]) -> torch.Tensor:
    """transformers' own sum of a text."""
    [(tokenizer, encoder)] = model.text.encoders
    ids = tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        found: torch.Tensor = encoder(ids).pooler_output
    return found


def test_known_words_are_those_read_but_the_concepts_own() -> None:
    given = target(retained=("A red-brick Church's truck", "the churches, the Café!"))
    assert known(given) == "a by cafe house of prayer red-brick sea the truck".split()
    concept = Concept("x", "object", "house of prayer", ("{}",))
    assert not {"house", "of", "prayer"} & set(known(replace(given, concept=concept)))


def test_every_candidate_is_ranked(tiny: Diffusion) -> None:
    goal = pooled(tiny, ["a photo of a church", "church at night"]).mean(0)
    expected = [*WORDS, *(" ".join(pair) for pair in permutations(WORDS, 2))]
    by_hand = torch.nn.functional.cosine_similarity(pooled(tiny, expected), goal[None])
    found, scores = score(tiny.text, WORDS, goal, 9)
    assert found == expected
    torch.testing.assert_close(scores, by_hand, rtol=1e-4, atol=1e-6)
    # The dealt ones, best first, go round the rows.
    best = [expected[i] for i in by_hand.argsort(descending=True)]
    given = replace(
        target(3),
        retained=target(retained=("red truck",)).retained,
        shown=(),
        paraphrases=("prayer",),
    )
    done = run(tiny, tiny, given, Settings(best=2, most=9), False, seeded())
    assert done.prompts == [best[0], best[1], best[0]]
    assert done.forwards == 3 * 2 + 3 * 2
    shots = [Shot(p, r.seed) for p, r in zip(done.prompts[:2], given.rows[:2], strict=True)]
    np.testing.assert_array_equal(done.images[:2], tiny.sample(shots, given.sampler))
    drawn = [
        run(tiny, tiny, given, Settings(best=3, most=9), True, seeded(i)).prompts for i in range(4)
    ]
    assert {prompt for own in drawn for prompt in own} <= set(expected)
    assert all(len(set(own)) == 3 for own in drawn) and len(set(map(tuple, drawn))) > 1


@pytest.mark.parametrize(("most", "paired"), [(9, 3), (8, 2), (5, 2), (4, 1), (3, 1), (1, 1)])
def test_where_pairs_are_too_many_those_of_the_best_words_stay(
    most: int, paired: int, tiny: Diffusion
) -> None:
    goal = pooled(tiny, ["a photo of a church"])[0]
    found, scores = score(tiny.text, WORDS, goal, most)
    assert len(found) == len(scores) == 3 + paired * (paired - 1) <= max(3, most)
    best = {WORDS[i] for i in scores[:3].argsort(descending=True)[:paired]}
    assert {word for pair in found[3:] for word in pair.split()} == (best if paired > 1 else set())


def test_no_other_words_is_one_sentence(tiny: Diffusion) -> None:
    given = replace(target(retained=("church",)), shown=(), paraphrases=())
    with pytest.raises(UserError, match="No words are known besides those of 'church'"):
        words.run(tiny, tiny, given, Settings(2, 9), False, seeded())
