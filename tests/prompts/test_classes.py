"""Classes of a model as concepts: names, anchors, and which prompts are trained on and judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from erase.prompts.classes import anchor_of, class_concept
from erase.prompts.concept import belongs, load_concept, pairs
from erase.prompts.groups import group_rows
from erase.prompts.held_out import evaluation_rows, retain_rows
from erase.runtime.errors import UserError

CLASSES = ("cat", "cats", "dog", "great white shark")
CAT, SHARK = (class_concept(f"class:{name}", CLASSES) for name in ("cat", "great white shark"))


def test_a_class_becomes_the_one_after_it_or_another() -> None:
    assert pairs(CAT, anchor_of(CAT, str(CAT.anchor))) == (("cat", "cats"),)
    assert SHARK.anchor == "class:cat"  # after the last comes the first
    assert pairs(SHARK, anchor_of(SHARK, "class:dog")) == (("great white shark", "dog"),)
    assert pairs(CAT, anchor_of(CAT, "")) == (("cat", ""),)  # the null class
    assert class_concept("class:cat", ("cat",)).anchor is None
    assert class_concept("class:a/b", ("a/b", "c")).family is None
    with pytest.raises(UserError, match="equals its anchor"):
        pairs(CAT, anchor_of(CAT, "class:cat"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("class:gog", r"no class 'gog'\. Did you mean 'dog'\? Choose one of its 4 classes"),
        ("dog", r"give class:NAME\. Did you mean 'class:dog'\?"),
        ("a truck", r"'a truck' is no class, .* give class:NAME\.$"),
    ],
)
def test_what_is_no_class_is_one_sentence(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        class_concept(name, CLASSES)
    with pytest.raises(UserError, match=message):
        anchor_of(CAT, name)


def test_texts_have_no_classes() -> None:
    with pytest.raises(UserError, match="only models that are told classes"):
        load_concept("class:cat", "mini")


def test_every_other_class_trains_and_is_judged_by_other_seeds() -> None:
    trained = retain_rows(CAT)
    forget, judged = evaluation_rows(CAT)
    # No word is looked for: 'cats' is another class.
    assert [r.prompt for r in trained] == [r.prompt for r in judged] == list(CLASSES[1:])
    assert [(r.prompt, r.labels) for r in forget] == [("cat", {"object": "cat"})]
    assert all(r.labels == {"object": r.prompt} for r in judged)
    assert not {r.seed for r in trained} & {r.seed for r in (*judged, *forget)}
    assert belongs("cat", {}, CAT) and not belongs("cats", {"object": "cats"}, CAT)
    groups = group_rows(CAT)
    assert {name: len(rows) for name, (_, rows) in groups.items()} == {
        "neighbour": 0,
        "general": 0,
        "empty": 1,
    }


def test_a_set_of_classes_chooses_among_them(tmp_path: Path) -> None:
    file = tmp_path / "near.csv"
    file.write_text("prompt,evaluation_seed\ncat,1\ncats,2\ndog,3\n", encoding="utf-8")
    assert [r.prompt for r in retain_rows(CAT, str(file))] == ["cats", "dog"]
    assert [r.prompt for r in evaluation_rows(CAT, str(file))[1]] == ["cats", "dog"]
    _, near = group_rows(CAT, neighbours=str(file))["neighbour"]
    assert [(r.prompt, r.labels["object"]) for r in near] == [("cats", "cats"), ("dog", "dog")]
    file.write_text("prompt\na dog\n", encoding="utf-8")
    with pytest.raises(UserError, match="the prompt 'a dog', which is no class"):
        retain_rows(CAT, str(file))


def test_what_a_run_depends_on_has_the_classes_of_classes_alone() -> None:
    assert CAT.key()["classes"] == CLASSES
    assert "classes" not in load_concept("mini/church").key()
    assert replace(CAT, paraphrases=("kitty",)).key() == CAT.key()
