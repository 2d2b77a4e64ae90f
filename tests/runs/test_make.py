"""A run made anew, and taken up again from what its folder says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.nudenet import Config
from erase.prompts.held_out import EVERYDAY_JUDGED
from erase.runs.dryrun import _stages
from erase.runs.make import each, every_concept, make_run, resume
from erase.runs.plan import describe
from erase.runs.run import Compute, Run, Sources
from erase.runtime.errors import UserError
from erase.study.compare import make_matrix
from tests.tiny import CLASSES, tiny_class_unet


def _left(run: Run) -> Path:
    """The folder that a run leaves behind, as far as resuming it goes."""
    run.out.mkdir(parents=True)
    (run.out / "run.json").write_text(json.dumps(describe(run, {}, "cpu")))
    return run.out


def _images(folder: Path) -> Path:
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8)).save(folder / f"{number}.png")
    return folder


def test_a_run_is_taken_up_as_it_was_asked_for(tmp_path: Path) -> None:
    sources = Sources(forget_folder=_images(tmp_path / "mine"), retain="mini-train")
    alone = make_run("mini", "church", None, None, 4, tmp_path / "a", {"alpha": 0.3}, sources)
    measured = Instruments(judge="mini", nudity=Config("strict6", 0.7))
    alone = replace(alone, instruments=measured, compute=Compute(compiled=True))
    several = make_run("mini", ["church", "radio"], ["truck", "a [hut]"], out=tmp_path / "b")
    for run in (alone, several):
        assert resume(_left(run)) == run


@pytest.mark.parametrize(
    "damage",
    [
        {"recipe": {}},
        {"recipe": {"method": "salun"}},
        {"seed": "x"},
        {"seed": None},
        {"given": {"concept": 3}},
        {"given": {"concept": "church", "nudity": {"never": 1}}},
        {"model": {"source": 3}},
    ],
)
def test_a_damaged_record_is_one_sentence(damage: dict[str, object], tmp_path: Path) -> None:
    out = _left(make_run("mini", "church", out=tmp_path / "r"))
    facts = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**facts, **damage}))
    with pytest.raises(UserError, match=r"^[^\n]*run\.json is damaged"):
        resume(out)


def test_what_a_folder_says_of_another_concept_is_not_taken_up(tmp_path: Path) -> None:
    out = _left(make_run("mini", "church", out=tmp_path / "r"))
    assert resume(out, "radio") is None
    assert resume(tmp_path / "nowhere") is None
    for name in ("church", "mini/church"):  # as it was called, and its full name
        assert resume(out, name) is not None


def test_another_recipe_takes_the_folders_that_it_has_a_use_for(tmp_path: Path) -> None:
    own = Sources(forget_folder=_images(tmp_path / "mine"))
    out = _left(make_run("mini", "church", out=tmp_path / "r", sources=own))
    esd = resume(out, recipe="esd-x")
    assert esd is not None and esd.recipe.name == "esd-x-mini"
    assert esd.sources.forget_folder is None


def test_a_model_from_elsewhere_is_no_recipe_that_can_be_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no method 'included'"):
        make_run("mini", "church", overrides={"method": "included"}, out=tmp_path / "r")


def test_what_a_model_is_told_decides_what_a_concept_may_be(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(tiny_class_unet(tmp_path / "unet", guidance=2.5))
    run = make_run(model, "class:church", out=tmp_path / "r")
    assert run.targets[0].named == ("class:church", "class:truck")
    assert resume(_left(run)) == run
    # The package's recipes sample as the model's authors do, but for what is asked for.
    recipe = run.recipe
    assert (recipe.name, recipe.guidance_scale, recipe.sampling_steps) == ("salun-ddpm", 2.5, 100)
    assert (
        make_run(model, "class:owl", overrides={"guidance_scale": 4.0}).recipe.guidance_scale == 4
    )
    assert make_run(model, "class:owl", recipe="salun-ddpm").recipe.guidance_scale == 2.5
    assert make_run(model, "class:owl", recipe="esd-all").recipe.guidance_scale == 2.5
    mine = tmp_path / "mine.toml"
    mine.write_text('method = "salun"\nguidance_scale = 5.0\n')
    assert make_run(model, "class:owl", recipe=str(mine)).recipe.guidance_scale == 5
    mine.write_text('method = "salun"\n')  # what it does not state is theirs
    assert make_run(model, "class:owl", recipe=str(mine)).recipe.guidance_scale == 2.5
    tiny_class_unet(tmp_path / "ddpm", guidance=2.5)
    monkeypatch.chdir(tmp_path)  # whatever a folder is called
    assert make_run("ddpm", "class:owl", recipe="salun-ddpm").recipe.guidance_scale == 2.5
    [compared] = make_matrix(model, ["esd-all"], ["class:owl"], [0], tmp_path / "m").recipes
    assert compared.guidance_scale == 2.5
    assert [c.word for c in every_concept(model)] == list(CLASSES)
    assert [one.name for one in each(run, False)] == [f"class:{name}" for name in CLASSES]
    # Those that the bundled model's recipes were chosen on are in no table of it.
    assert not {"owl", "locomotive"} & {c.word for c in every_concept("mini-class")}
    for concept, message in (("church", "give class:NAME"), ("a church", "give class:NAME")):
        with pytest.raises(UserError, match=message):
            make_run(model, concept, "class:truck")
    for other in ("mini", str(tiny_folder)):
        with pytest.raises(UserError, match="only models that are told classes"):
            make_run(other, "class:church")
    with pytest.raises(UserError, match="needs a family of concepts, or classes"):
        every_concept(str(tiny_folder))
    with pytest.raises(UserError, match="hub can't tell the classes of 'some/model'"):
        make_run("some/model", "class:church")


def test_a_concept_may_be_anothers_anchor_where_none_is_needed() -> None:
    run = make_run("mini", ["church", "truck"], recipe="esd-x-mini")
    assert len(run.targets) == 2
    with pytest.raises(UserError, match="would become"):
        make_run("mini", ["church", "truck"], recipe="salun-mini")


def test_a_count_beside_a_folder_is_refused(tmp_path: Path) -> None:
    own = Sources(forget_folder=_images(tmp_path / "mine"))
    with pytest.raises(UserError, match="--forget-images has no effect beside --forget-folder"):
        make_run("mini", "church", overrides={"forget_images": 9}, sources=own)
    run = make_run("mini", "church", sources=own)
    assert describe(run, {}, "cpu")["own_images"] == {"forget": 3}
    assert _stages(run)["images"].startswith("3 of your own forget images")


def test_concepts_that_share_a_prompt_are_not_one() -> None:
    with pytest.raises(UserError, match="'mini/church' and 'mini/ink' are asked for by the same"):
        make_run("mini", ["church", "ink"], recipe="uce-mini")
    with pytest.raises(UserError, match="mini/church was given twice"):
        make_run("mini", ["church", "mini/church"], recipe="uce-mini")


def test_few_retained_prompts_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "few.csv").write_text("prompt\n" + "\n".join(f"a dog {n}" for n in range(7)))
    (tmp_path / "more.csv").write_text("prompt\n" + "\n".join(f"a dog {n}" for n in range(8)))
    for name, few in (("few.csv", True), ("more.csv", False)):
        sources = Sources(retain=str(tmp_path / name))
        run = make_run("mini", "an ink [cat]", "", recipe="uce-mini", sources=sources)
        assert describe(run, {}, "cpu")["warnings"] == ([EVERYDAY_JUDGED] if few else [])
    assert not describe(make_run("mini", "church"), {}, "cpu")["warnings"]


@pytest.mark.parametrize("recorded", [None, ""])
def test_no_anchor_is_not_the_empty_prompt(tmp_path: Path, recorded: str | None) -> None:
    """Of a method that needs none; some folders say "" of it."""
    esd = make_run("mini", "a [house]", recipe="esd-x-mini", out=tmp_path / "esd")
    assert esd.targets[0].named == ("a [house]", None)
    file = _left(esd) / "run.json"
    facts = json.loads(file.read_text())
    facts["given"]["anchor"] = recorded
    file.write_text(json.dumps(facts))
    assert resume(esd.out) == esd
    with pytest.raises(UserError, match="no anchor of its own"):
        resume(esd.out, recipe="salun-mini")
