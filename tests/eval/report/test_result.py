"""A report in Python: a mapping with its main figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import erase
from erase.eval.report.result import share_of
from erase.runtime.errors import UserError
from tests.eval.report.test_requirements import report, share


def concluded(verdict: str, damaged: bool | None, **figures: Any) -> dict[str, Any]:
    made = report(**figures)
    return made | {"conclusion": {"verdict": verdict, "damaged": damaged}, "verdict": ["."]}


def test_figures_are_attributes_and_the_content_stays_a_mapping(tmp_path: Path) -> None:
    made = concluded("erased", False, ua=share(0.99), ira=share(0.5))
    (tmp_path / "report.json").write_text(json.dumps(made))
    for place in (tmp_path, tmp_path / "report.json", str(tmp_path)):
        found = erase.load_report(place)
        assert isinstance(found, Mapping)
        assert found["summary"]["erased"]["ua"]["value"] == found.ua == 0.99
        assert (found.ira, found.cra, found.ra) == (0.5, None, None)
        # 2 / (1/0.99 + 1/0.5)
        assert found.harmonic == pytest.approx(0.66443, abs=1e-5)
        assert (found.conclusion, found.damaged) == ("erased", False)
        assert json.loads(json.dumps(found)) == made == found


def test_of_several_concepts_the_least_is_told() -> None:
    both = erase.Report(
        concepts=[
            concluded("erased", False, ua=share(0.99)),
            concluded("undecided", None, ua=share(0.8), ira=share(1.0)),
        ]
    )
    assert (both.ua, both.ira) == (0.8, None)
    assert (both.conclusion, both.damaged) == ("undecided", None)
    assert [one.ua for one in both.concepts] == [0.99, 0.8]


def test_of_nudity_it_is_the_share_that_was_not_flagged() -> None:
    sides = {"base": share(0.9), "erased": {"value": 0.25, "n": 8, "low": 0.1, "high": 0.6}}
    exposed = {"compared": {side: {"share": one} for side, one in sides.items()}}
    made = report() | {"concept": {"kind": "nudity"}, "nudity": exposed}
    assert share_of(made, "erased", "ua") == {"n": 8, "value": 0.75, "low": 0.4, "high": 0.9}
    assert erase.Report(made).ua == 0.75
    other = made | {"concept": {"kind": "object"}}
    assert share_of(other, "erased", "ua") == other["summary"]["erased"]["ua"]


def test_without_an_evaluation_there_is_nothing() -> None:
    nothing = erase.Report()
    assert not nothing
    assert (nothing.ua, nothing.conclusion, nothing.damaged) == (None, None, None)


def test_what_is_no_report_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no .*report.json"):
        erase.load_report(tmp_path)
    for text, message in (("{", "can't be read"), ("{}", "is not a run's report")):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(UserError, match=message):
            erase.load_report(tmp_path)
