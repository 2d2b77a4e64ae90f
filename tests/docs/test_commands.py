"""Every command on a page is one that the parser takes, and those for the bundled model run."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from erase.cli.main import main
from erase.cli.parser import build_parser
from erase.prompts.concept import Concept, load_concept
from erase.recipes.choice import recipe_for
from erase.recipes.recipe import as_dict, idle, load_recipe
from erase.runtime.errors import UserError
from erase.study.compare import _include as included
from tests.docs.pages import PAGES, commands, fenced, inline


@cache
def parser(command: str) -> ArgumentParser:
    return build_parser(exporting=command == "export", only=command)


def parsed(words: Sequence[str]) -> None:
    """Parses without running; help ends as help does."""
    try:
        options = parser(words[0]).parse_args([*words])
    except SystemExit as stopped:
        if stopped.code:
            raise UserError("It ends before it begins.") from stopped
        return
    chosen = options[words[0]]
    model = chosen.get("model") or "mini"
    for given in (chosen.get("recipe"), *(chosen.get("recipes") or [])):
        for name in (given or "").split(","):
            if name and not re.search(r"\.toml|NAME", name) and words[0] != "classifier":
                load_recipe(recipe_for(name, model))
    for text in chosen.get("include") or ():
        assert included(text)


@pytest.mark.parametrize("page", PAGES)
def test_the_parser_takes_every_command(page: str) -> None:
    wrong = []
    for words in commands(PAGES[page]):
        try:
            parsed(words)
        except UserError as error:
            wrong.append(f"erase {' '.join(words)}\n    {error}")
    for words in inline(PAGES[page]):
        flagged = [word for word in words if word.startswith("--")]
        known = [sign for action in _all(words[0]) for sign in action.option_strings]
        wrong += [f"erase {words[0]} has no {sign}" for sign in flagged if sign not in known]
    assert not wrong, "\n".join(wrong)


def _all(command: str) -> Iterator[object]:
    if command == "COMMAND":
        command = "run"
    [commands] = [a for a in parser(command)._actions if a.dest == "command"]
    child = commands.choices[command]
    for action in child._actions:
        yield action
        if isinstance(action.choices, dict):
            for below in action.choices.values():
                yield from below._actions


def test_commands_are_found_however_they_are_launched() -> None:
    launched = next(iter(commands(PAGES["gpus.md"])))
    assert launched == "run --model sd.safetensors --concept nudity".split()
    assert sum(len(list(commands(page))) for page in PAGES.values()) > 60
    with pytest.raises(UserError, match="no-such-flag"):
        parsed(["run", "--no-such-flag", "1"])


def test_the_files_that_pages_print_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    people = "prompt,person\na photo of Ada Lovelace,ada_lovelace\na photo of Alan Turing,turing\n"
    Path("people.csv").write_text(people)
    ada, judged, every = fenced(PAGES["concepts.md"], "toml")
    for text in (ada, judged):
        Path("concept.toml").write_text(text)
        found = load_concept("concept.toml")
        assert found.kind == "person" and "a photo of Ada Lovelace" in found.prompts()
    Path("concept.toml").write_text(every)
    assert "a noto drawing of a church" in load_concept("concept.toml").prompts()
    known = {f.name for f in fields(Concept)} - {"name", "classes"}
    assert tomllib.loads(every).keys() == known | {"slot"}
    Path("canvas.csv").write_text("prompt,style,object\nA Dogs image in Photo style.,Photo,Dogs\n")
    Path("concept.toml").write_text(fenced(PAGES["protocols.md"], "toml")[0])
    assert load_concept("concept.toml").word == "Van Gogh"
    [mine] = fenced(PAGES["comparing.md"], "toml")
    Path("mine.toml").write_text(mine)
    assert load_recipe("mine.toml").steps == 300


SMALL = {
    **dict.fromkeys(("forget_images", "retain_images", "steps", "batch_size"), "2"),
    **dict.fromkeys(("saliency_batch", "eval_forget", "eval_neighbours", "eval_general"), "2"),
    **dict.fromkeys(("sampling_steps", "eval_empty"), "1"),
    "eval_retain": "9",
}
"""Settings that make a command quick."""
ELSEWHERE = re.compile(
    r"[A-Z]{3,}|sd\.safetensors|^demo|their|stabilityai|prompts\.csv|toml|other-words|imagenette|runs/dog|runs/ada|runs/nudity"
    r"|adv-unlearn|inversion|relearn|=0\.9|\ball\b|quick|random:|split\.json"
)
"""What needs files or a model that nobody has here, is meant to fail, takes long at any size, or
serves a page until it is stopped."""
MADE = {
    "attacks.md": ("church",),
    "class-conditional.md": (),
    "classifiers.md": (),
    "comparing.md": (),
    "concepts.md": (),
    "formats.md": ("church", "radio"),
    "images.md": (),
    "quickstart.md": (),
}
"""Pages to be followed, with the runs that they take for granted."""


def runs(page: Path) -> list[list[str]]:
    """The commands of a page that can be run here; of an attack, one that names it."""
    found = [words for words in commands(page) if not ELSEWHERE.search(" ".join(words))]
    return [w for w in found if w[0] != "attack" or "--attacks" in w]


def small(words: list[str]) -> list[str]:
    """The command with settings that make it quick, of those that its method has."""
    values = dict(pairwise(words))
    if words[0] in ("run", "compare", "tune"):
        default = "salun" if words[0] == "run" else "uce"
        names = (values.get("--recipe") or values.get("--recipes") or default).split(",")
        recipes = [as_dict(load_recipe(recipe_for(name, "mini"))) for name in names]
        known = {key for recipe in recipes for key in recipe.keys() - {*idle(recipe)}}
        words = [*words, *_flags({k: v for k, v in SMALL.items() if k in known})]
    if words[0] == "run":
        words += ["--anyway", "--preview", "0"]
    if words[0] == "tune":
        words += ["--trials", "1", "--forwards", "400"]
    if words[:2] == ["classifier", "run"]:
        words += ["--train-samples", "400", "--retrains", "2"]
    if words[0] == "generate" and "--set" in words:
        words += ["--sampling-steps", "1"]
    return words


def _flags(values: dict[str, str]) -> list[str]:
    return [word for k, v in values.items() for word in (f"--{k.replace('_', '-')}", v)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that pages go on from."""
    place = tmp_path_factory.mktemp("made")
    for concept in ("church", "radio"):
        words = f"run --model mini --concept {concept} --recipe uce --out {place / concept}"
        main(small(words.split()))
    return place


@pytest.mark.slow
@pytest.mark.parametrize("page", MADE)
def test_the_commands_for_the_bundled_model_run(
    page: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in MADE[page]:
        shutil.copytree(made / name, Path("runs") / name)
    found = runs(PAGES[page])
    assert found
    for words in found:
        main(small(words))
    assert list(Path("runs").iterdir())
