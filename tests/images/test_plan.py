"""The evaluation's requests: spread evenly, seeded by row and number."""

from __future__ import annotations

from erase.images.plan import OTHER_SEEDS, plan
from erase.prompts.prompt_set import Row

ROWS = [Row(i, f"p{i}", 1000 * i, {"object": "x"}, None, None, None) for i in (4, 7, 9)]


def test_images_are_spread_over_the_rows() -> None:
    made = plan(ROWS, 7, "set", "forget")
    assert [(r.case_number, r.k) for r in made] == [
        (4, 0), (7, 0), (9, 0), (4, 1), (7, 1), (9, 1), (4, 2)
    ]  # fmt: skip
    assert [r.seed for r in made] == [4000, 7000, 9000, 4001, 7001, 9001, 4002]
    assert len({r.file for r in made}) == 7
    assert {r.role for r in made} == {"forget"}


def test_the_second_set_differs_in_its_seeds_alone() -> None:
    one, two = plan(ROWS, 6, "set", "retain"), plan(ROWS, 6, "set", "retain", OTHER_SEEDS)
    assert [r.seed + OTHER_SEEDS for r in one] == [r.seed for r in two]
    assert [r.file for r in one] == [r.file for r in two]
    assert not {r.seed for r in one} & {r.seed for r in two}


def test_nothing_asked_nothing_made() -> None:
    assert plan(ROWS, 0, "set", "retain") == []
    assert plan([], 5, "set", "retain") == []


def test_a_rows_own_guidance_is_kept() -> None:
    row = Row(0, "p", 1, {}, 9.0, None, None)
    assert plan([row], 1, "s", "forget")[0].guidance == 9.0


def test_a_rows_own_size_is_kept() -> None:
    both = Row(0, "p", 1, {}, None, height=64, width=32)
    one = Row(1, "p", 1, {}, None, height=64, width=None)
    none = Row(2, "p", 1, {}, None, None, None)
    sizes = [plan([row], 1, "s", "forget")[0].size for row in (both, one, none)]
    assert sizes == [(64, 32), (64, None), None]
