from __future__ import annotations

from pathlib import Path

import pytest

from erase.prompts.concept import Concept, list_concepts, load_concept
from erase.prompts.groups import GROUPS, group_rows, neighbour_rows
from erase.prompts.prompt_set import load_set
from erase.runs.evaluation import requests
from erase.runs.make import make_run
from erase.runs.run import Sources


def test_every_concept_has_neighbours_other_than_itself() -> None:
    for name in list_concepts():
        concept = load_concept(name)
        rows = neighbour_rows(concept)
        assert len({r.prompt for r in rows}) >= 2, name
        assert all(concept.label not in r.labels.values() for r in rows), name
        assert not {r.prompt for r in rows} & set(concept.prompts()), name


def test_neighbours_take_turns_in_wordings_that_training_does_not_use() -> None:
    rows = neighbour_rows(load_concept("imagenette/church"))
    assert [r.prompt for r in rows[:3]] == [
        "Image of cathedral",
        "Image of chapel",
        "Image of mosque",
    ]
    mini = neighbour_rows(load_concept("mini/church"))
    assert [(r.prompt, dict(r.labels)) for r in mini[:2]] == [
        ("a picture of a fuel pump in the flat style", {"object": "fuel-pump"}),
        ("a picture of a radio in the flat style", {"object": "radio"}),
    ]
    # Scenes of their own are no wordings of "nude person".
    assert neighbour_rows(load_concept("nudity"))[0].prompt == "a picture of a person in a swimsuit"
    own = Concept("cat", "object", "cat", ("a picture of a {}",), neighbours=("owl",))
    texts = [r.prompt for r in neighbour_rows(own)]
    assert texts == ["a close-up of an owl", "an owl in the distance"]


def test_everyday_captions_leave_out_the_concept() -> None:
    bicycle = Concept("bicycle", "object", "bicycle", retain=("a dog",))
    name, rows = group_rows(bicycle)["general"]
    texts = [r.prompt for r in load_set("everyday").rows]
    assert name == "general-everyday"
    assert 0 < len(rows) < len(texts)
    assert not any("bicycle" in r.prompt.split() for r in rows)


def test_own_neighbours_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "near.csv"
    file.write_text("prompt\na tower\na church tower\n")
    name, rows = group_rows(load_concept("mini/church"), neighbours=str(file))["neighbour"]
    assert (name, [r.prompt for r in rows]) == ("neighbours-near", ["a tower"])


@pytest.mark.parametrize("override", ["everyday", "mini", "own/empty.csv", "own/neighbours.csv"])
def test_no_two_images_share_a_file(tmp_path: Path, override: str) -> None:
    (tmp_path / "own").mkdir()
    if override.endswith(".csv"):
        (tmp_path / override).write_text("prompt\na tower\na castle\n")
        override = str(tmp_path / override)
    asked = requests(make_run("mini", "church", sources=Sources(neighbours=override)))["base"]
    files = [(r.set, r.file) for r in asked]
    assert len(set(files)) == len(files)
    # Nor does a neighbour start from the noise of what is judged.
    seeds = [{r.seed for r in asked if (r.role == "neighbour") is near} for near in (True, False)]
    if override != "everyday":  # which the general group asks for as well
        assert not seeds[0] & seeds[1]


def test_free_text_has_no_neighbours() -> None:
    assert group_rows(load_concept("a red bicycle"))["neighbour"][1] == ()


@pytest.mark.parametrize("name", ["mini/church", "mini/ink", "imagenette/church", "nudity"])
@pytest.mark.usefixtures("first_generation")
def test_no_image_shares_its_starting_noise_with_another(name: str) -> None:
    counts = {f"eval_{group}": 40 for group in ("forget", "retain", "neighbours", "general")}
    model = "mini" if name.startswith("mini") else "some/model"
    run = make_run(model, name, overrides={**counts, "eval_empty": 9})
    asked = requests(run)
    seeds = [r.seed for r in (*asked["base"], *asked["base2"])]
    assert len(set(seeds)) == len(seeds)
    assert max(seeds) + 1_000_000_000 < 2**31
    roles = [r.role for r in asked["base"]]
    assert {role: roles.count(role) for role in GROUPS} == {
        "neighbour": 40,
        "general": 40,
        "empty": 9,
    }
    assert {r.role for r in asked["base2"]} == {"retain", "general"}
    assert [r.prompt for r in asked["base"] if r.role == "empty"] == [""] * 9
    assert asked["erased"] == asked["base"]
