"""``erase attack`` at the command line: what it refuses, in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erase.cli.main import main


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as caught:
        main(["attack", *argv])
    assert caught.value.code == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if x.startswith("erase: ")][-1:]
    return line


CONCEPT = """
kind = "object"
word = "church"
templates = ["a photo of a {}"]
retain = ["a truck", "a radio", "a dog", "a fish", "a saw", "a flag", "a pump", "a horn"]
neighbours = ["castle"]
"""


def test_what_was_erased_has_to_be_said(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, str(tiny_folder), "--base", str(tiny_folder))
    assert "add --concept" in said


def test_without_a_judge_nothing_is_attacked(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "church.toml"
    file.write_text(CONCEPT)
    model = str(tiny_folder)
    out = ("--out", str(tmp_path / "out"))
    said = refused(capsys, model, "--base", model, "--concept", str(file), "--device", "cpu", *out)
    assert "can't be judged: no judge was given" in said
    assert not (tmp_path / "out").exists()


def test_a_judge_has_to_know_the_concept(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "zeppelin.toml"
    file.write_text(CONCEPT.replace("church", "zeppelin"))
    model = str(tiny_folder)
    given = ("--base", model, "--concept", str(file), "--judge", "mini", "--device", "cpu")
    said = refused(capsys, model, *given, "--out", str(tmp_path / "out"))
    assert "can't be judged: none of the judge's 16 labels" in said


def test_a_run_of_several_concepts_is_attacked_one_at_a_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = {"stages": {}, "given": {"concept": ["church", "radio"]}, "model": {"source": "mini"}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert "one at a time with --concept" in refused(capsys, str(tmp_path))


@pytest.mark.parametrize("more", [("--batch", "0"), ("--seed", "-1"), ("--budget", "0")])
def test_numbers_out_of_range(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["attack", str(tiny_folder), "--concept", "church", *more])
    assert caught.value.code == 2
    assert more[1] in capsys.readouterr().err


def test_a_floor_is_of_one_concept(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from erase.prompts.concept import load_concept
    from erase.runs.attacks.of_run import Attacks

    argv = ["compare", "--recipes", "uce", "--concepts", "church,radio", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as caught:
        main([*argv, "--attacks", "inversion", "--floor", "never-church", "--dry-run"])
    assert caught.value.code == 2
    assert "is one model for 2 concepts" in capsys.readouterr().err
    each = Attacks(floor="never-{concept}")
    each.check(2)
    each_of = each.floor_of(load_concept("fuel-pump", "mini"), "mini")
    assert each_of == "never-fuel-pump"
    unknown = Attacks(floor="none")
    unknown.check(2)
    assert unknown.floor_of(load_concept("church", "mini"), "mini") is None
