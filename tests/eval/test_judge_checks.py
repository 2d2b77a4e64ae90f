"""Judges at chance are refused, and an assumed order of their outputs is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from erase.eval.instruments.judges import ASSUMED
from erase.eval.judge_checks import assumed, check_knows
from erase.eval.recognition import Judged
from erase.runtime.errors import UserError
from tests.eval.synthetic import judges


def judged(count: int, hits: int, labels: tuple[str, ...], role: str = "retain") -> list[Judged]:
    """Rows of one label, the first ``hits`` of them recognised."""
    said = [labels[0] if i < hits else labels[1] for i in range(count)]
    return [Judged(role, {"object": labels[0]}, {"object": (one, 0.9)}) for one in said]


def test_a_judge_at_chance_on_the_base_is_refused() -> None:
    ten = tuple("abcdefghij")
    judge = {"object": replace(judges()["object"], labels=ten, spec="torchvision:x@y.pth")}
    # The Wilson interval of 6 of 30 begins at 0.095, below 1/10, that of 7 of 30 at 0.118.
    with pytest.raises(UserError, match=r"no better than chance.*6 of 30 right, with 10 labels"):
        check_knows(judge, judged(30, 6, ten))
    check_knows(judge, judged(30, 7, ten))
    # Below chance, as names in a wrong order are.
    with pytest.raises(UserError, match="0 of 96 right"):
        check_knows(judge, judged(96, 0, ten))
    check_knows(judge, judged(29, 0, ten))  # too few to tell
    # A base that does not show the concept is not the judge's fault, where the rest is told.
    check_knows(judge, [*judged(30, 30, ten), *judged(300, 0, ten, "forget")])
    with pytest.raises(UserError, match="0 of 40 right"):
        check_knows(judge, [*judged(20, 0, ten), *judged(20, 0, ten, "forget")])


def test_an_assumed_order_is_named() -> None:
    named = replace(judges()["object"], spec="torchvision:x@a/y.pth", facts={"named_by": ASSUMED})
    [sentence] = assumed({"object": named})
    assert "no y.pth.labels.txt" in sentence and "church, truck, radio, trumpet" in sentence
    assert assumed(judges()) == []
    with pytest.raises(UserError, match=r"without a/y\.pth\.labels\.txt their order was assumed"):
        check_knows({"object": named}, judged(30, 0, named.labels))
