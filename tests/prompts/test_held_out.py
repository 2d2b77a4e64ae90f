"""What is judged as retained is held out of training, whatever is erased and kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from erase.prompts.concept import Concept, list_concepts
from erase.prompts.held_out import evaluation_rows, retain_rows
from erase.prompts.prompt_set import load_set
from erase.runs.evaluation import requests
from erase.runs.make import make_run
from erase.runs.run import Sources, listed
from erase.runtime.errors import UserError

EVERY = {f"eval_{group}": 400 for group in ("retain", "neighbours", "general")}


@pytest.mark.parametrize(
    ("concept", "retain"),
    [
        *((name, None) for name in list_concepts()),
        ("a red bicycle", None),
        ("a red bicycle", "mini-train"),
        ("imagenette/church", "imagenette"),  # the very prompts that are judged
        ("imagenette/church", "everyday"),
    ],
)
@pytest.mark.usefixtures("first_generation")
def test_nothing_judged_as_retained_was_trained_on(concept: str, retain: str | None) -> None:
    model = "mini" if concept.startswith("mini") else "some/model"
    run = make_run(model, concept, "a truck", overrides=EVERY, sources=Sources(retain=retain))
    trained = {" ".join(text.lower().split()) for text in run.retain_prompts()}
    asked = requests(run)["base"]
    judged = [r for r in asked if r.role not in ("forget", "empty")]
    assert not {" ".join(r.prompt.lower().split()) for r in judged} & trained
    assert {"retain", "general"} <= {r.role for r in judged}
    if run.targets[0].concept.neighbours:
        assert "neighbour" in {r.role for r in judged}


def test_half_of_the_captions_trains_and_the_other_half_is_judged() -> None:
    run = make_run("some/model", "a red zeppelin", "a kite")
    every = [r.prompt for r in load_set("everyday").rows]
    assert run.retain_prompts() == every[::2]
    asked = requests(run)["base"]
    assert {r.prompt for r in asked if r.role == "retain"} == set(every[1::2])
    assert {r.prompt for r in asked if r.role == "general"} == set(every[1::2])


def test_captions_of_ones_own_images_are_not_judged(tmp_path: Path) -> None:
    from PIL import Image

    judged = load_set("everyday").rows[1].prompt
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(judged.upper())
    own = Sources(retain_folder=tmp_path)
    run = make_run("some/model", "a red zeppelin", "a kite", sources=own)
    assert judged not in {r.prompt for r in requests(run)["base"]}


def test_images_of_what_is_forgotten_are_not_retained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for name, text in (("a", "a kite at sea"), ("b", "two Red Zeppelins"), ("c", "a red kite")):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(text)
    own = Sources(retain_folder=tmp_path)
    run = make_run("some/model", "a [red zeppelin]", "a kite", sources=own)
    assert [prompt for _, prompt, _ in listed(run, "retain")] == ["a kite at sea", "a red kite"]
    assert "1 of 3 images of" in capsys.readouterr().err
    for name in ("a", "c"):
        (tmp_path / f"{name}.txt").write_text("a red zeppelin")
    with pytest.raises(UserError, match="Every image of"):
        listed(run, "retain")


def test_half_of_a_grid_keeps_every_label_on_both_sides(tmp_path: Path) -> None:
    styles, objects = ("Van_Gogh", "Cubism", "Photo", "Sketch"), ("Dogs", "Towers")
    file = tmp_path / "canvas.csv"
    rows = [f"A {o} image in {s} style.,{s},{o}" for s in styles for o in objects]
    file.write_text("\n".join(["prompt,style,object", *rows]) + "\n")
    concept = Concept(
        *("van-gogh", "style", "Van Gogh"),
        axis="style",
        label="Van_Gogh",
        evaluation=str(file),
        retain=str(file),
    )
    trained, judged = retain_rows(concept), evaluation_rows(concept)[1]
    assert {r.prompt for r in trained}.isdisjoint(r.prompt for r in judged)
    assert len(trained) + len(judged) == 6
    for side in (trained, judged):
        assert {r.labels["style"] for r in side} == {"Cubism", "Photo", "Sketch"}
        assert {r.labels["object"] for r in side} == set(objects)


def test_of_a_file_sorted_by_class_the_first_rows_are_of_all(tmp_path: Path) -> None:
    names = ("cat", "dog", "owl", "fox")
    lines = [f"a {name} number {i},{name}" for name in names for i in range(50)]
    file = tmp_path / "sorted.csv"
    file.write_text("prompt,object\n" + "\n".join(lines) + "\n")
    run = make_run("some/model", "a zeppelin", "a kite", sources=Sources(retain=str(file)))
    for side in (run.retain_prompts(), [r.prompt for r in requests(run)["base"]]):
        first = [p.split()[1] for p in side if " number " in p][:40]
        assert {first.count(name) for name in names} == {10}
    # One labelling keeps its order.
    kept = [p for p in run.retain_prompts() if " cat " in p]
    assert kept == sorted(kept, key=lambda p: int(p.split()[-1]))
