from __future__ import annotations

import re
from dataclasses import fields

import pytest

from erase.cli.parser import asked_about, build_parser
from erase.cli.recipe_flags import only
from erase.methods import list_methods, load_method
from erase.recipes.recipe import flags
from erase.runtime.errors import UserError


def shown(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What a command prints that only prints help."""
    with pytest.raises(SystemExit) as stop:
        build_parser(asked_about(argv)).parse_args(list(argv))
    assert stop.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def offered(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w'=-])--([a-z][\w.-]+)", text))


def test_help_shows_the_flags_of_a_first_run_and_help_all_every_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    few, every = (offered(shown(capsys, "run", f"--{flag}")) for flag in ("help", "help-all"))
    assert {"model", "concept", "anchor", "recipe", "judge", "steps", "help-all"} <= few < every
    assert len(few) < 35
    names = {f.name.replace("_", "-") for m in list_methods() for f in flags(m)}
    assert names | {"clip", "nudity.classes", "nudity-classes", "compile"} <= every


def test_help_states_the_value_that_will_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    """Of salun-mini.toml, and of esd-u-mini.toml what SalUn has not."""
    text = shown(capsys, "run", "--help-all")
    for value in ("salun-mini: 300)", "salun-mini: 0.0003)", "salun-mini: saliency)",
                  "esd-u-mini: empty)"):  # fmt: skip
        assert f"({value}".replace(" ", "") in text.replace(" ", "")
    assert "None" not in text
    assert text.count(", ".join(list_methods())) == 1


@pytest.mark.parametrize("method", list_methods())
def test_help_of_a_method_has_its_own_settings_and_no_others(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {field.name.replace("_", "-") for field in fields(load_method(method).Config)}
    others = {
        field.name.replace("_", "-")
        for other in list_methods()
        for field in fields(load_method(other).Config)
        if field.name not in {flag.name for flag in flags(method)}
    }
    few = offered(shown(capsys, "run", "--help"))
    text = shown(capsys, "run", f"--method={method}", "--help")
    assert own <= offered(text) and not others & offered(text)
    assert f"settings of {method} alone:" in text
    assert len(few) < 45 and "--method NAME --help" in shown(capsys, "run", "--help")


def test_help_of_a_recipe_has_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    text = shown(capsys, "run", "--recipe", "esd-x", "--help")
    assert "in parentheses, the value in esd-x- mini" in text  # a line ends there
    assert "--x-t-steps N steps of x_t's sampler (>= 1) (15)" in text
    text = shown(capsys, "train", "--model", "sd", "--recipe", "esd-x", "--help")
    assert "--x-t-steps N steps of x_t's sampler (>= 1) (50)" in text
    assert asked_about(["run", "--recipe", "esd-x"]) is None


def test_help_of_eval_lists_no_settings_of_the_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for flag in ("--help", "--help-all"):
        found = offered(shown(capsys, "eval", flag))
        assert {"images", "judge"} <= found and not {"steps", "lr", "eval-forget"} & found
    # They stay valid, as every flag of a run does.
    assert build_parser().parse_args(["eval", "--steps", "3"]).eval.steps == 3


def test_the_methods_of_a_setting_are_named_the_shorter_way() -> None:
    every = list_methods()
    assert only(every) == ""
    assert only(["esd", "salun"]) == " [esd, salun]"
    assert only([m for m in every if m != "uce"]) == " [not uce]"


def test_a_flag_of_nudity_is_spelled_with_a_dot_or_a_dash() -> None:
    for flag in ("--nudity.classes", "--nudity-classes"):
        assert build_parser().parse_args(["eval", flag, "esd9"]).eval.nudity.classes == "esd9"
    with pytest.raises(UserError, match="Did you mean '--nudity-classes'"):
        build_parser().parse_args(["eval", "--nudity-clases", "esd9"])
