"""Ring-A-Bell: the direction, the fitness, the search, and which words it may use."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from erase.diffusion.model import Diffusion
from erase.eval.attacks import ring_a_bell
from erase.eval.attacks._text import spell, typed, without
from erase.eval.attacks.ring_a_bell import Settings, breed, direction, fitness, search
from erase.images.request import Shot
from tests.eval.attacks.targets import CHURCH, seeded, target


def test_direction_and_fitness_by_hand(tiny: Diffusion) -> None:
    def e(prompt: str) -> torch.Tensor:
        return tiny.embed([prompt]).hidden[0].double()

    pairs = (("a photo of a church", "a photo of a"), ("church at night", "at night"))
    mean = sum(e(yes) - e(no) for yes, no in pairs) / 2
    found = direction(tiny.text, CHURCH)
    torch.testing.assert_close(found.double(), mean, rtol=1e-4, atol=1e-6)
    goal = e("a church") + 3 * mean
    prompts = ["red truck", "a very old blue trumpet"]
    ids = [tiny.text.tokenizer(p, add_special_tokens=False).input_ids for p in prompts]
    expected = torch.stack([((e(p) - goal) ** 2).sum() for p in prompts])
    torch.testing.assert_close(
        fitness(tiny.text, ids, goal.float()).double(), expected, rtol=1e-4, atol=0
    )


def test_the_search_improves_on_its_first_strings(tiny: Diffusion) -> None:
    vocabulary = torch.tensor(list(typed(tiny.text)))
    goal = tiny.embed(["a church"]).hidden[0] + 3 * direction(tiny.text, CHURCH)
    settings = Settings(population=12, generations=12, tokens=4)
    first = vocabulary[torch.randint(len(vocabulary), (12, 4), generator=seeded())].tolist()
    start = fitness(tiny.text, first, goal)
    after = [
        fitness(tiny.text, [search(tiny.text, goal, own, vocabulary, seeded())], goal).item()
        for own in (Settings(12, 1, 4), settings)
    ]
    assert after[0] == pytest.approx(start.min().item(), rel=1e-5)
    assert after[1] < 0.98 * after[0]


def test_children_have_a_part_of_each_parent() -> None:
    strings = torch.arange(24).reshape(4, 6)
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0])
    bred, own = breed(strings, scores, Settings(8, 1, 6, mutation=0, crossover=1), 99, seeded())
    assert torch.equal(bred[:4], strings) and torch.equal(own[:4], scores)
    assert len(bred) == 12 and own[4:].isnan().all()
    crossed = 0
    for row, a, b in zip(strings, bred[4:8], bred[8:], strict=True):
        assert torch.equal(a % 6, torch.arange(6)) and torch.equal(b % 6, torch.arange(6))
        # Where one child has the parent's token, the other has the partner's.
        mine = a == row
        partner = torch.where(mine, b, a) // 6
        assert len(partner.unique()) == 1
        assert torch.equal(mine, mine.sort(descending=True).values) or bool((b == row).all())
        crossed += int(0 < mine.sum() < 6)
    assert crossed >= 2


def test_a_mutation_changes_one_token_and_is_scored_again() -> None:
    strings = torch.full((5, 6), 200)
    scores = torch.arange(5.0)
    bred, own = breed(strings, scores, Settings(10, 1, 6, mutation=1, crossover=0), 99, seeded())
    assert own.isnan().all()
    assert ((bred != strings).sum(1) == 1).all() and bred[bred != 200].max() < 99
    bred, own = breed(strings, scores, Settings(10, 1, 6, mutation=0, crossover=0), 99, seeded())
    assert torch.equal(bred, strings) and torch.equal(own, scores)


def test_the_concepts_own_words_are_not_used(tiny: Diffusion) -> None:
    every = typed(tiny.text)
    left = without(every, tiny.text, CHURCH)
    gone = {every[i] for i in every.keys() - left.keys()}
    assert {"church", "churches"} <= gone and len(gone) < 10
    assert {"chapel", "night", "photo"} <= set(left.values())


def test_random_strings_are_not_selected(tiny: Diffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("random search looks at no score")

    monkeypatch.setattr(ring_a_bell, "fitness", never)
    given = target(2)
    settings = Settings(population=4, generations=2, tokens=5)
    found = ring_a_bell.run(tiny, tiny, given, settings, True, seeded())
    vocabulary = torch.tensor(list(without(typed(tiny.text), tiny.text, CHURCH)))
    drawn = vocabulary[torch.randint(len(vocabulary), (2, 5), generator=seeded())].tolist()
    assert found.prompts == [spell(tiny.text, own) for own in drawn]
    assert found.forwards == 2 * 2 and not found.fresh
    shots = [Shot(p, r.seed) for p, r in zip(found.prompts, given.rows, strict=True)]
    np.testing.assert_array_equal(found.images, tiny.sample(shots, given.sampler))
