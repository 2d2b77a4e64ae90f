"""Which pictures of two sides show the same case."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from erase.eval.pictures import UNKNOWN_SEED, Picture, is_unknown

Rule = Callable[[Picture], Hashable | None]
"""What pictures of the same case have in common; None where the rule does not apply."""


def _noise(picture: Picture) -> Hashable | None:
    return None if picture.seed == UNKNOWN_SEED else (picture.key, picture.prompt, picture.seed)


def _drawn(picture: Picture) -> Hashable | None:
    return None if picture.seed == UNKNOWN_SEED else (picture.prompt, picture.seed)


def _exact(picture: Picture) -> Hashable:
    return picture.key, picture.prompt


def _case(picture: Picture) -> Hashable | None:
    return None if is_unknown(picture) else (picture.case_number, picture.k, picture.prompt)


def _name(picture: Picture) -> Hashable:
    return picture.file.name


def _unknown(picture: Picture) -> Hashable | None:
    return picture.file.name if is_unknown(picture) else None


RULES: tuple[tuple[Rule, Rule], ...] = (
    (_noise, _noise),
    (_drawn, _drawn),  # whatever the order in which a manifest lists them
    (_exact, _exact),
    (_case, _case),  # two tools may call one prompt set by different names
    (_name, _unknown),
    (_unknown, _name),
)
"""For both sides, the surest first. Another prompt under one file name is another picture."""


def pair(
    pictures: Sequence[Picture], against: Sequence[Picture], other_seeds: bool = False
) -> list[tuple[Picture, Picture]]:
    """Pairs ``(other, picture)`` of the same case, in the order of ``pictures``.

    By prompt and seed; what that leaves, where a side does not know its seeds, by set, case number,
    number and prompt, or without the set; and what is then left, where a side knows no prompts, by
    file name. What a rule does not tell apart on both sides is not paired: it would be a guess.

    Args:
        pictures: of one side.
        against: of the other.
        other_seeds: whether cases whose seeds are known to differ are the same all the same.
    """
    found: dict[int, int] = {}
    for rule, theirs in RULES:
        mine = _groups(pictures, rule, set(found))
        other = _groups(against, theirs, set(found.values()))
        for key in mine.keys() & other.keys():
            if len(mine[key]) == len(other[key]) == 1:
                one, two = mine[key][0], other[key][0]
                seeds = {pictures[one].seed, against[two].seed} - {UNKNOWN_SEED}
                if other_seeds or len(seeds) < 2:
                    found[one] = two
    return [(against[found[i]], pictures[i]) for i in sorted(found)]


def _groups(pictures: Sequence[Picture], rule: Rule, taken: set[int]) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for i, picture in enumerate(pictures):
        if i not in taken and (key := rule(picture)) is not None:
            groups.setdefault(key, []).append(i)
    return groups
