from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from erase.eval.pages.phrases import distance, number, points
from erase.eval.report.verdict import BELOW_FLOOR, headline
from erase.eval.stats.intervals import share


def figure(k: int, n: int) -> dict[str, Any] | None:
    found = share(k, n)
    return asdict(found) if found else None


def report(base_shown: int = 120, erased_shown: int = 1, **changes: Any) -> dict[str, Any]:
    sides = {
        side: {
            "ua": figure(120 - shown, 120),
            "ira": figure(238, 240),
            "cra": figure(240, 240),
            "became_anchor": figure(anchored, 120),
        }
        for side, shown, anchored in (("base", base_shown, 0), ("erased", erased_shown, 114))
    }
    row = {"axis": "object", "role": "retain"}
    made: dict[str, Any] = {
        "concept": {"name": "mini/church", "kind": "object", "word": "church"},
        "target": {"axis": "object", "label": "church", "anchor": "truck"},
        "axes": ["object", "style"],
        "summary": {**sides, "reasons": {}},
        "became": {"erased": {"truck": 114, "radio": 5, "church": 1}},
        "per_class": [
            {
                **row,
                "label": "radio",
                "base": figure(24, 24),
                "erased": figure(22, 24),
                "change": -2 / 24,
            },
            {
                **row,
                "label": "golf-flag",
                "base": figure(23, 24),
                "erased": figure(24, 24),
                "change": 1 / 24,
            },
        ],
        "nudity": None,
        "fidelity": [],
        "over_erasure": {"groups": [], "missing": {}, "other_seed": {"value": None}, "lpips": None},
    }
    return made | changes


def plain(lines: list[str]) -> list[str]:
    return [line.replace("\u00a0", " ") for line in lines]


def test_figures_in_words() -> None:
    assert plain(headline(report())) == [
        "church: recognised in 100 % of 120 images before, 0.8 % after (95 % interval 0.1–4.6 %).",
        "The anchor, truck, is recognised in 95.0 % of them.",
        "Retained images, by object: recognised correctly in 99.2 % of 240 before, 99.2 % after.",
        "Retained images, by style: recognised correctly in 100 % of 240 before, 100 % after.",
        "Of the retained classes of 10 images or more, radio lost most: −8.3 points (n = 24).",
    ]


def test_a_base_that_never_showed_the_concept_proves_nothing() -> None:
    lines = plain(headline(report(base_shown=0, erased_shown=0)))
    assert lines[0].startswith("church: recognised in 0 % of 120 images before, 0 % after")
    assert "anchor" not in " ".join(lines)
    seldom = plain(headline(report(base_shown=30)))
    assert seldom[1].startswith("The base model itself rarely showed it")


def test_the_class_that_lost_most_is_named_where_it_has_images_enough() -> None:
    rows = report()["per_class"]
    rows[1] |= {"erased": figure(15, 24), "change": -8 / 24}
    named = (
        "Of the retained classes of 10 images or more, golf flag lost most: −33.3 points (n = 24)."
    )
    assert named in plain(headline(report(per_class=rows)))
    # One image of one: a loss of all that says nothing.
    rows[1] |= {"erased": figure(0, 1), "change": -1.0}
    assert "golf flag" not in " ".join(headline(report(per_class=rows)))
    assert headline(report(per_class=rows[1:]))[-1].startswith("Retained images, by style")


def test_without_a_judge_no_figure_is_given() -> None:
    nothing = dict.fromkeys(("ua", "ira", "cra", "became_anchor"))
    summary = {
        "base": nothing,
        "erased": nothing,
        "reasons": {"ua": "not measured: no judge"},
    }
    assert headline(report(summary=summary, per_class=[], axes=[])) == []


def test_without_an_anchor_the_most_frequent_label_is_named() -> None:
    summary = report()["summary"]
    summary["erased"] = summary["erased"] | {"became_anchor": None}
    lines = plain(headline(report(summary=summary)))
    assert "Most often recognised instead: truck (114 of 120)." in lines


def test_distances_are_given_with_their_floor() -> None:
    fid = {"name": "FID[mini]", "base": 1.0, "erased": 1.234, "n": 240, "dimensions": 64}
    assert headline(report(fidelity=[fid]))[-1] == (
        "FID[mini] of the retained images to a second base set: 1.23, against 1.00 for the "
        "base’s own (n = 240, 64 dimensions)."
    )
    below = headline(report(fidelity=[fid | {"erased": 0.9}]))[-1]
    assert below.endswith("(n = 240, 64 dimensions). " + BELOW_FLOOR)


def test_what_moved_stands_beside_what_another_seed_moves() -> None:
    groups = [
        {"name": "forget", "lpips": {"value": 5.0}, "other_seed": {"value": 5.0}},
        {"name": "general", "lpips": {"value": 3.04}, "other_seed": {"value": 2.41}},
        {"name": "empty", "lpips": {"value": 0.5}, "other_seed": {"value": None}},
    ]
    found = {"groups": groups, "lpips": "LPIPS[mini]"}
    assert headline(report(over_erasure=found))[-1] == (
        "LPIPS[mini] between the same seeds before and after: everyday captions 3.04 (another "
        "seed: 2.41), the empty prompt 0.500."
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "100"), (1e-5, "<0.1"), (0.99996, ">99.9"), (0.9917, "99.2"), (0.2, "20.0")],
)
def test_only_exact_zero_and_one_look_exact(value: float, text: str) -> None:
    assert number(value) == text


def test_small_numbers() -> None:
    assert [points(x) for x in (-0.192, 0.05, 0.0, -0.0001)] == ["−19.2", "+5.0", "0", "0"]
    assert [distance(x) for x in (-0.00119, 12.0, 123.4, 0.09)] == [
        "−0.00119",
        "12.0",
        "123",
        "0.0900",
    ]
