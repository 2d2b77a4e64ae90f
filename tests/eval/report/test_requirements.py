"""``--require``: values of a report held against least values."""

from __future__ import annotations

from typing import Any

import pytest

from erase.cli.main import main
from erase.eval.report.requirements import (
    RequirementError,
    check_folders,
    check_report,
    parse,
    unmet,
)
from erase.runtime.errors import UserError


def share(value: float, n: int = 40) -> dict[str, float]:
    return {"value": value, "n": n, "low": 0.0, "high": 1.0}


def report(name: str = "church", **figures: Any) -> dict[str, Any]:
    erased = dict.fromkeys(("ua", "ra", "ira", "cra", "became_anchor")) | figures
    return {
        "concept": {"name": name, "kind": "object"},
        "summary": {"erased": erased},
        "nudity": None,
    }


def test_what_is_asked_for_is_read() -> None:
    assert parse("ua=0.95, ira = 0.9") == {"ua": 0.95, "ira": 0.9}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ua", "write ua=0.95,ira=0.9"),
        ("", "write ua=0.95,ira=0.9"),
        ("ua=0.9,", "write ua=0.95,ira=0.9"),
        ("uaa=0.9", "choose from ua, ra, ira, cra, became_anchor, harmonic.*Did you mean 'ua'"),
        ("ua=95", "is not in .0, 1.: give a fraction, e.g. 0.95 for 95"),
        ("ua=-1", "is not in"),
        ("ua=nan", "is not in"),
        ("ua=95%", "ua=95% is not a number"),
        ("ua=0.9,ua=0.8", "names ua twice"),
    ],
)
def test_what_can_not_be_asked_for_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(text)


def test_a_wrong_requirement_is_found_before_anything_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for argv in (
        ["run", "--model", "no/such", "--concept", "x", "--require", "fid=3"],
        ["eval", "--images", "no/such/folder", "--require", "fid=3"],
        ["run", "--concept", "church", "--stages", "images", "--require", "ua=1"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert "There is no figure 'fid'" in said or "without the stage eval" in said


@pytest.mark.parametrize(
    ("figures", "required", "lines"),
    [
        ({"ua": share(0.95)}, {"ua": 0.95}, []),
        ({"ua": share(0.94)}, {"ua": 0.95}, ["ua is 0.94, but 0.95 or more is required."]),
        ({}, {"ua": 0.0}, ["ua was not measured, but 0 or more is required."]),
        (
            {"ua": share(1.0, 9), "ira": share(0.5)},
            {"ua": 0.95, "ira": 0.9},
            [
                "ua was counted on 9 images, but at least 10 are needed to meet ua=0.95.",
                "ira is 0.5, but 0.9 or more is required.",
            ],
        ),
        # 3 / (1/1 + 1/0.5 + 1/0.5) = 0.6
        ({"ua": share(1.0), "ira": share(0.5), "cra": share(0.5)}, {"harmonic": 0.6}, []),
        (
            {"ua": share(1.0), "ira": share(0.5), "cra": share(0.5)},
            {"harmonic": 0.7},
            ["harmonic is 0.6, but 0.7 or more is required."],
        ),
    ],
)
def test_each_unmet_requirement_is_a_sentence(
    figures: dict[str, Any], required: dict[str, float], lines: list[str]
) -> None:
    assert unmet(report(**figures), required) == lines


def test_each_of_several_concepts_must_meet_it() -> None:
    both = {"concepts": [report(ua=share(0.99)), report("radio", ua=share(0.5))]}
    check_report(both, {"ua": 0.5})
    with pytest.raises(RequirementError, match="^ua of radio is 0.5, but 0.9 or more"):
        check_report(both, {"ua": 0.9})


def test_nudity_counts_what_is_not_flagged() -> None:
    nudity = {"compared": {"erased": {"share": share(0.1)}}}
    found = report("nudity") | {"nudity": nudity}
    assert unmet(found, {"ua": 0.9}) == ["ua was not measured, but 0.9 or more is required."]
    found["concept"]["kind"] = "nudity"
    assert unmet(found, {"ua": 0.9}) == []


def test_what_is_exactly_met_is_met_whatever_its_rounding() -> None:
    """In binary, the harmonic mean of three times 0.9 comes out below 0.9, and so does 1 - 0.07."""
    alike = report(ua=share(0.9), ira=share(0.9), cra=share(0.9))
    assert unmet(alike, {"harmonic": 0.9}) == []
    flagged = {"compared": {"erased": {"share": share(7 / 100, 100)}}}
    nudity = report() | {"nudity": flagged, "concept": {"name": "nudity", "kind": "nudity"}}
    assert 1 - 7 / 100 < 0.93 and unmet(nudity, {"ua": 0.93}) == []
    assert unmet(nudity, {"ua": 0.931})


def test_a_harmonic_mean_of_ua_alone_meets_nothing() -> None:
    [line] = unmet(report(ua=share(1.0)), {"harmonic": 0.5})
    assert "harmonic was not measured" in line
    assert unmet(report(ua=share(1.0), cra=share(0.9)), {"harmonic": 0.5}) == []


def test_nudity_in_folders_is_what_a_detector_counts() -> None:
    judged = {"ua": share(0.5)}
    folder = {"name": "x", "classifier": judged, "nudity": {"share": share(0.0)}, "figures": []}
    told = {"folders": [folder], "base": None, "kind": "nudity"}
    check_folders(told, {"ua": 0.9})
    with pytest.raises(RequirementError, match="ua of x is 0.5"):
        check_folders({**told, "kind": "object"}, {"ua": 0.9})


def test_folders_but_the_base_must_meet_it() -> None:
    flagged = {"name": "ours", "nudity": {"share": share(0.02)}}
    base = {"name": "base", "nudity": {"share": share(0.5)}}
    judged = {"name": "theirs", "classifier": {"ua": share(0.8)}}
    result = {"base": "base", "folders": [base, flagged, judged]}
    check_folders(result, {"ua": 0.8})
    with pytest.raises(RequirementError, match="^ua of theirs is 0.8, but 0.9 or more"):
        check_folders(result, {"ua": 0.9})
    # That nothing is flagged says nothing of a church.
    church = {"base": "base", "kind": "object", "folders": [base, flagged]}
    with pytest.raises(RequirementError, match="^ua of ours was not measured"):
        check_folders(church, {"ua": 0.8})
    check_folders({**church, "kind": "nudity"}, {"ua": 0.8})


def test_a_run_that_is_one_of_several_is_named() -> None:
    with pytest.raises(RequirementError, match="^ua of mini/radio is 0.5, but 0.9 or more"):
        check_report(report("radio", ua=share(0.5)), {"ua": 0.9}, "mini/radio")
