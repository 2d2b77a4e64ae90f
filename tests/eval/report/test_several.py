"""Several concepts in one run: prompts in turn, masks by union, figures for each."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import erase
from erase.cli.main import main
from erase.diffusion.data import Encoded
from erase.diffusion.losses import saliency_losses
from erase.diffusion.model import Diffusion
from erase.diffusion.scopes import scoped
from erase.images.files import read_manifest
from erase.runs.evaluation import requests, requests_of
from erase.runs.make import make_run
from erase.runtime.errors import UserError
from erase.unlearn.mask import Mask, union
from erase.unlearn.saliency import accumulate
from tests.methods.data import make_data

TWO = ["mini/church", "mini/radio"]
KEYS = ("forget_images", "retain_images", "sampling_steps", "steps", "batch_size")
SMALL: dict[str, Any] = {
    **dict.fromkeys(KEYS, 4),
    **{f"eval_{n}": 8 for n in ("forget", "retain", "neighbours", "general", "empty")},
    "sampling_steps": 1,
    "scope": "xattn",
}


MADE_BY = (
    "erase.run(model='tiny', concept=['mini/church', 'mini/radio'], recipe='salun-sd', out='run', "
    + ", ".join(f"{name}={value!r}" for name, value in SMALL.items())
    + ")"
)


def test_pairs_take_turns_and_every_concept_has_the_same_share() -> None:
    run = make_run("mini", ["church", "a very old castle"], ["truck", "a hill"])
    pairs, words = run.pairs(), run.words()
    church = make_run("mini", "church", "truck").pairs()
    assert pairs[::2] == church
    assert set(pairs[1::2]) == {("a very old castle", "a hill")}
    assert len(pairs) == 2 * len(church)
    assert words == ("church", "a very old castle") * len(church)


def test_nothing_erased_is_retained_or_judged_as_retained() -> None:
    run = make_run("mini", ["church", "radio"])
    everything = requests(run)
    for number, target in enumerate(run.targets):
        own = requests_of(run, number)
        forget = [r for r in own["base"] if r.role == "forget"]
        assert {r.labels["object"] for r in forget} == {target.concept.label}
        others = [r for rows in own.values() for r in rows if r.role != "forget"]
        assert not {r.labels.get("object") for r in others} & {"church", "radio"}
        assert all(r in everything[side] for side, rows in own.items() for r in rows)
    # Retained prompts are of both at once.
    retained = [r.file for r in everything["base"] if r.role == "retain"]
    assert len(set(retained)) == len(retained) == run.recipe.eval_retain
    names = [(r.set, r.file) for r in everything["base"]]
    assert len(set(names)) == len(names)
    assert not any("radio" in prompt or "church" in prompt for prompt in run.retain_prompts())


def test_each_concepts_saliency_is_that_of_its_own_images(tiny: Diffusion) -> None:
    data = make_data(tiny, "forget")  # five images of two prompts in turn
    params = scoped(tiny.denoiser, "xattn")
    own = torch.tensor([1, 3])
    images = data.images["forget"]
    alone = replace(data, images={"forget": Encoded(images.posterior[own], images.prompt[own])})
    settings = {"w": 1.0, "batch": 2, "seed": 3}
    expected = accumulate(params, saliency_losses(tiny, alone, **settings))
    found = accumulate(params, saliency_losses(tiny, data, concept=1, concepts=2, **settings))
    assert all(torch.equal(found[name], expected[name]) for name in params)


def test_a_run_with_two_concepts(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    report = erase.run(str(tiny_folder), TWO, recipe="salun-sd", out=str(out), **SMALL)
    assert [c["concept"]["name"] for c in report["concepts"]] == TWO
    for name in ("church", "radio"):  # all that is said of the concept itself
        own = json.loads((out / "concepts" / name / "report.json").read_text())["verdict"]
        said = [s for s in own if s.startswith(f"{name}:") or "The base" in s]
        assert said and all(any(s in line for line in report["verdict"]) for s in said)
    prompts = [row["prompt"] for row in read_manifest(out / "images" / "forget")]
    assert ["church" in p for p in prompts] == [True, False] * 2
    facts = json.loads((out / "run.json").read_text())
    assert facts["concept"] == "mini/church + mini/radio"
    mask = Mask.load(out / "mask.safetensors")
    of = mask.provenance["of"]
    assert [part["concept"] for part in of] == TWO
    k = int(0.5 * sum(v.numel() for n, v in _scoped(tiny_folder).items()))
    assert k < mask.count < 2 * k
    for name in ("church", "radio"):
        own = json.loads((out / "concepts" / name / "report.json").read_text())
        assert own["concept"]["word"] == name
        assert own["images"]["erased"]["forget"] == own["images"]["erased"]["retain"] == 8
        assert {c["label"] for c in own["per_class"] if c["role"] == "forget"} == {name}
        html = (out / "concepts" / name / "report.html").read_text()
        assert f"Erasing {name}" in html
        # The prompt that the page suggests is the concept's own.
        assert re.search(rf"pipe[a-z]*\([^)]*{name}", html)
        assert f"concepts/{name}/report.html" in (out / "report.html").read_text()
    rows = list(csv.DictReader((out / "report.csv").open()))
    assert [r["concept"] for r in rows] == TWO
    page = (out / "report.html").read_text()
    # Six pairs of each concept's images, how to take the model elsewhere, and no place of this one.
    assert page.count("<img") == 2 * 2 * 6
    assert f"erase export {out.name}/model" in page
    assert not any(str(tmp_path) in file.read_text() for file in out.rglob("report.*"))
    assert report.conclusion == "nothing concluded" and report.damaged is None
    # Figures of every metric, and what to mind of them.
    assert report.figure("rest_kept") is not None
    told = json.loads((out / "concepts" / "radio" / "report.json").read_text())["warnings"]
    assert told and {*told} <= {*report["warnings"]}
    assert all(warning.split(":")[0] in page for warning in told)
    # Asked for again, by flags or from the folder, there is nothing to do.
    before = (out / "report.json").stat().st_mtime_ns
    main(["run", "--out", str(out)])
    assert json.loads((out / "run.json").read_text())["commands"] == [MADE_BY]
    assert (out / "report.json").stat().st_mtime_ns == before


def _scoped(folder: Path) -> dict[str, torch.nn.Parameter]:
    return scoped(Diffusion.load(str(folder)).denoiser, "xattn")


def test_the_union_lets_any_of_the_masks_weights_move(tiny: Diffusion) -> None:
    params = scoped(tiny.denoiser, "xattn")
    masks = [
        Mask.top({n: torch.rand(p.shape) for n, p in params.items()}, 0.3, tiny.denoiser)
        for _ in range(2)
    ]
    both = union(*masks)
    for name in params:
        assert torch.equal(both.dense(name), masks[0].dense(name) | masks[1].dense(name))


@pytest.mark.parametrize(
    ("concepts", "anchors", "settings", "message"),
    [
        (["church", "church"], None, {}, "given twice"),
        (["church", "mini/church"], None, {}, "given twice"),
        ([], None, {}, "No concept was given"),
        (["church", "radio"], None, {"forget_images": 1}, "--forget-images 1 is less than one"),
        (["church", "radio", "trumpet"], ["truck", "truck"], {}, "2 anchors .* 3 concepts"),
        (["church", "truck"], ["truck", "radio"], {}, "'mini/church' would become 'mini/truck'"),
        (["church", "radio"], None, {"mask": "random"}, "A random mask"),
    ],
)
def test_what_can_not_work_is_refused(
    concepts: list[str],
    anchors: list[str] | None,
    settings: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(UserError, match=message):
        make_run("mini", concepts, anchors, overrides=settings)


def test_all_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--concept", "all", "--concept", "church", "--dry-run"])
    assert "give it alone" in capsys.readouterr().err


def test_existing_images_are_measured_for_one_concept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        "eval",
        "--images",
        str(tmp_path),
        "--concept",
        "mini/church",
        "--concept",
        "mini/radio",
    ]
    with pytest.raises(SystemExit):
        main(argv)
    assert "one concept at a time: give --concept once" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*argv[:5], "--compile"])
    assert "--compile has no effect on existing images" in capsys.readouterr().err


def test_an_inversion_of_several_concepts_is_refused_before_anything_is_made() -> None:
    with pytest.raises(UserError, match="A textual inversion learns one concept"):
        make_run("some/model", ["a church", "a radio"], ["a hut", "a hut"], "fmn")


def test_names_that_look_alike_do_not_share_images_or_folders() -> None:
    long = "a painting in the manner of a very famous dutch master of old, of a"
    run = make_run("some/model", [f"{long} windmill", f"{long} church"], "a hut")
    assert len(set(run.places())) == 2
    asked = requests(run)["base"]
    forget = [r.prompt for r in asked if r.role == "forget"]
    half = run.recipe.eval_forget
    assert forget.count(f"{long} windmill") == forget.count(f"{long} church") == half


@pytest.mark.usefixtures("first_generation")
def test_retained_sets_of_several_concepts_take_turns(tmp_path: Path) -> None:
    """One prompt of the one is not lost among two hundred of the other."""
    run = make_run("some/model", ["nudity", "a church"], [None, "a hut"], "salun-sd")
    alone = make_run("some/model", "nudity").retain_prompts()
    prompts = run.retain_prompts()
    assert sum(p in alone for p in prompts[:100]) >= 50
    assert make_run("some/model", "a church", "a hut").retain_prompts() == prompts[1::2]


@pytest.mark.usefixtures("first_generation")
def test_which_of_several_recipes_is_asked_for() -> None:
    """Nudity and other concepts have different settings by default; neither is taken silently."""
    concepts, anchors = ["nudity", "a church"], [None, "a hut"]
    with pytest.raises(
        UserError, match=r"salun-sd14-nudity for 'nudity', salun-sd for 'a church'.*--recipe"
    ):
        make_run("some/model", concepts, anchors)
    assert make_run("mini", ["church", "a church"], "truck").recipe.name == "salun-mini"
