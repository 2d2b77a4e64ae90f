from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from erase.cli.listing import CATALOGUE, first_line, listing
from erase.cli.main import main
from erase.eval.metrics import list_metrics
from erase.methods import list_methods
from erase.prompts.concept import list_concepts
from erase.prompts.prompt_set import list_sets
from erase.recipes.recipe import list_recipes
from erase.runtime.errors import UserError


@pytest.mark.parametrize(
    ("what", "names"),
    [
        ("methods", list_methods()),
        ("metrics", list_metrics()),
        ("concepts", list_concepts()),
        ("sets", list_sets()),
        ("recipes", list_recipes()),
    ],
)
def test_every_entry_has_a_line_that_starts_with_its_name(what: str, names: list[str]) -> None:
    lines = [line for line in listing(what).splitlines()[1:] if not line.startswith("#")]
    assert [line.split()[0] for line in lines] == names
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    assert listing(what) in listing()


def test_the_classes_of_a_model_are_its_concepts(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [line.split() for line in listing("classes").splitlines()]
    assert rows[0] == ["concept", "label"] and ["class:church", "2"] in rows and len(rows) == 13
    with pytest.raises(UserError, match="mini is told texts, not classes"):
        listing("classes", "mini")
    with pytest.raises(SystemExit) as stopped:
        main(["list", "recipes", "--model", "mini"])
    assert stopped.value.code == 2 and "--model has no effect" in capsys.readouterr().err


def test_what_a_recipe_trains_stands_beside_it() -> None:
    """Of salun-mini.toml, ga-mini.toml (alpha is 0: no retained images), esd-x.toml, uce.toml."""
    rows = {row[0]: tuple(row[1:5]) for row in CATALOGUE["recipes"]()[1]}
    assert rows["salun-mini"] == ("salun", "mini", "200 forget + 400 retain", "300")
    assert rows["ga-mini"] == ("gradient_ascent", "mini", "200 forget", "105")
    assert rows["esd-x"] == ("esd", "Stable Diffusion", "–", "1000")
    assert rows["uce"] == ("uce", "Stable Diffusion", "–", "–")


def test_a_concept_stands_with_its_anchor_and_a_prompt() -> None:
    rows = {row[0]: tuple(row[1:]) for row in CATALOGUE["concepts"]()[1]}
    assert rows["mini/church"] == ("object", "mini/truck", "a noto drawing of a church")
    assert rows["mini/owl"][0] == "object, for tuning"


def test_judges_are_told_by_the_libraries_that_open_them() -> None:
    from erase.eval.instruments.spec import LIBRARIES

    shown = listing("judges")
    assert all(f"\n{library}:NAME[@FILE]" in shown for library in LIBRARIES)


def test_a_method_dropped_in_is_described_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text('"""A new method.\n\nMore.\n"""\nraise SystemExit\n')
    assert first_line(tmp_path / "new.py") == "A new method"


def test_names_are_listed_without_a_network_library(tmp_path: Path) -> None:
    code = (
        "import sys; from erase.cli.main import main; main(['list'])\n"
        "print([n for n in ('torch', 'scipy', 'diffusers') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
