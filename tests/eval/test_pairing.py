"""Which pictures are paired: by case or by file, never by a guess."""

from __future__ import annotations

from pathlib import Path

from erase.eval.pairing import pair
from erase.eval.pictures import UNKNOWN_SEED, Picture


def picture(
    file: str, case: int, prompt: str, k: int = 0, set_name: str = "s", seed: int = UNKNOWN_SEED
) -> Picture:
    return Picture(Path(file), "", set_name, case, k, prompt, seed, "retain", {})


def paired(one: list[Picture], other: list[Picture]) -> list[tuple[str, str]]:
    return [(str(a.file), str(b.file)) for a, b in pair(one, other)]


def test_by_set_case_number_and_prompt() -> None:
    one = [picture("x1", 0, "a"), picture("x2", 0, "a", k=1), picture("x3", 1, "b")]
    other = [picture("y3", 1, "b"), picture("y2", 0, "a", k=1), picture("y1", 0, "a")]
    assert paired(one, other) == [("y1", "x1"), ("y2", "x2"), ("y3", "x3")]


def test_another_prompt_is_another_picture() -> None:
    assert paired([picture("1.png", 0, "a")], [picture("1.png", 0, "b")]) == []


def test_sets_may_have_different_names_where_that_tells() -> None:
    one = [picture("x1", 0, "a", set_name="mine"), picture("x2", 1, "b", set_name="mine")]
    other = [picture("y1", 0, "a"), picture("y2", 1, "b")]
    assert paired(one, other) == [("y1", "x1"), ("y2", "x2")]
    # Two manifests that number alike: which of them is meant can't be told.
    twice = [picture("z1", 0, "a", set_name="p"), picture("z2", 0, "a", set_name="q")]
    assert paired(one, twice) == []


def test_by_file_name_where_a_side_knows_no_prompts() -> None:
    unknown = [picture(f"u/{n}.png", 0, "", set_name=f"{n}.png") for n in (1, 2)]
    listed = [picture("m/2.png", 7, "b"), picture("m/3.png", 8, "c")]
    assert paired(unknown, listed) == [("m/2.png", "u/2.png")]
    assert paired(listed, unknown) == [("u/2.png", "m/2.png")]
    same = [picture("v/1.png", 0, "", set_name="1.png")]
    assert paired(unknown, same) == [("v/1.png", "u/1.png")]


def test_by_prompt_and_seed_whatever_the_order_of_the_lists() -> None:
    one = [picture("x1", 0, "a", seed=5), picture("x2", 1, "a", seed=6)]
    other = [picture("y2", 0, "a", seed=6), picture("y1", 1, "a", seed=5)]
    assert paired(one, other) == [("y1", "x1"), ("y2", "x2")]


def test_another_seed_is_another_picture_where_both_are_known() -> None:
    one, other = [picture("x", 0, "a", seed=5)], [picture("y", 0, "a", seed=500_000_005)]
    assert paired(one, other) == []
    assert pair(one, other, other_seeds=True) == [(other[0], one[0])]
    assert paired(one, [picture("z", 0, "a")]) == [("z", "x")]
