"""Models that are told classes, through every stage, method, attack and format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import erase
from erase.cli.main import main
from erase.diffusion.model import Diffusion
from erase.eval.attacks import (
    DoesNotApply,
    handover,
    latent,
    list_attacks,
    load_attack,
    noise,
    prior,
    relearn,
)
from erase.eval.recovery.report import told_floor
from erase.formats.base import open_base
from erase.formats.export import export
from erase.formats.foreign import included_state
from erase.images.request import Sampler, Shot
from erase.methods import list_methods, load_method
from erase.runs.attacks.inquiry import make_inquiry
from erase.runs.attacks.targets import target_of
from erase.runs.checks import check
from erase.runs.make import make_run
from erase.runs.run import places
from erase.runtime.errors import UserError
from erase.study.compare import make_matrix
from erase.unlearn.fit import Fit
from erase.unlearn.mask import Mask
from tests.class_models import MODELS, SMALL, target
from tests.eval.attacks.targets import seeded
from tests.methods.data import fit_for, make_data, moved, weights
from tests.methods.test_others import quick
from tests.runtime.test_processes import alone, launch
from tests.tiny import CLASSES, tiny_class_unet

FILES = {
    "unet": "unet/diffusion_pytorch_model.safetensors",
    "dit": "transformer/diffusion_pytorch_model.safetensors",
}
TOLD = [name for name in list_methods() if not load_method(name).NEEDS.text]
ATTACKS = ("handover", "latent", "noise", "prior", "relearn", "round-trip")
STAGES = ("images", "mask", "train")
SEARCHLESS = ("prior", "round-trip")
SPENT: dict[str, Any] = {
    "relearn": relearn.Settings((0, 1), batch=2),
    "handover": handover.Settings((0.5,)),
    "noise": noise.Settings((1.0,)),
    "latent": latent.Settings(steps=2, iterations=1),
    "prior": prior.Settings(images=2),
}


@pytest.fixture(scope="module", params=MODELS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MODELS[kind](tmp_path_factory.mktemp("models") / kind)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the default recipe."""
    out = tmp_path_factory.mktemp("runs") / "church"
    erase.run(model=str(folder), concept="class:church", out=str(out), **SMALL)
    return out


def test_every_stage(kind: str, folder: Path, run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    assert facts["recipe"]["name"] == "salun-ddpm" and facts["kind"] == "class"
    assert facts["pairs"] == [["church", "truck"]]  # the next class, as published
    # Every other class trains, and is judged by images of other seeds.
    seeds = []
    for place in ("images/retain", "eval/base/retained"):
        rows = [json.loads(x) for x in (run / place / "manifest.jsonl").read_text().splitlines()]
        assert {r["prompt"] for r in rows} == set(CLASSES[1:])
        seeds.append({r["seed"] for r in rows})
    assert not seeds[0] & seeds[1]
    assert all(r["labels"] == {"object": r["prompt"]} for r in rows)
    [empty] = (run / "eval/base/empty-prompt/manifest.jsonl").read_text().splitlines()
    assert json.loads(empty)["prompt"] == ""  # the null class
    before, after = load_file(folder / FILES[kind]), load_file(run / "model" / FILES[kind])
    mask = Mask.load(run / "mask.safetensors")
    moves = {name: after[name] != weight for name, weight in before.items()}
    assert any(bool(moved.any()) for moved in moves.values())
    assert not any(bool((moved & ~mask.dense(name)).any()) for name, moved in moves.items())
    assert erase.run(out=str(run), model=str(folder), concept="class:church", **SMALL) is not None


def test_the_cards_lines_sample_as_we_do(run: Path) -> None:
    """They are run as they stand, but for the place of the model."""
    card = (run / "model" / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0]
    assert "LoRA" not in card and "# truck" in code  # a class that is still there
    torch.manual_seed(7)
    told: dict[str, Any] = {}
    exec(code.replace("path/to/this/folder", str(run / "model")), told)
    image = told["image"]
    if isinstance(image, torch.Tensor):
        image = (image.permute(1, 2, 0).numpy() * 255).round()
    model = Diffusion.load(str(run / "model"))
    ours = model.sample([Shot("truck", 7)], Sampler("ddim", 2, 3.0))[0]
    assert np.abs(np.asarray(image, dtype=int) - ours.astype(int)).max() <= 1


def test_the_page_opens_the_model_as_the_card_does(run: Path) -> None:
    page = (run / "report.html").read_text()
    assert "from_single_file" not in page and "DDIMScheduler" in page


def test_a_delta_is_the_model_and_other_formats_say_why_not(
    kind: str, folder: Path, run: Path, tmp_path: Path
) -> None:
    model, base = str(run / "model"), str(folder)
    delta = tmp_path / "delta.safetensors"
    export(model, str(delta), kind="delta", base=base)
    export(str(delta), str(tmp_path / "again"), base=base)
    there, here = (
        load_file(run / "model" / FILES[kind]),
        load_file(tmp_path / "again" / FILES[kind]),
    )
    assert there.keys() == here.keys() and all(torch.equal(v, here[n]) for n, v in there.items())
    assert Diffusion.load(str(tmp_path / "again")).reader.ids(["owl"]) == [3]
    for other in ("lora", "lycoris", "single"):
        with pytest.raises(UserError, match="use --format delta|keep the folder"):
            export(model, str(tmp_path / f"{other}.safetensors"), kind=other, base=base)


def test_a_model_of_the_same_classes_takes_part_in_a_comparison(
    kind: str, folder: Path, run: Path, tmp_path: Path
) -> None:
    theirs, other = tmp_path / "never-church", tmp_path / "other"
    shutil.copytree(run / "model", theirs)
    asked = (str(folder), ["esd-all"], ["class:church"], range(1), tmp_path / "m", {})
    matrix = make_matrix(*asked, includes=[f"theirs={tmp_path}/never-{{concept}}"])
    assert matrix.cells[-1].recipe.config.path == theirs  # named as the class is
    found, moved = included_state(theirs, open_base(str(folder))), load_file(theirs / FILES[kind])
    assert found.keys() == moved.keys()
    assert all(torch.equal(v, moved[n].float()) for n, v in found.items())
    shutil.copytree(theirs, other)
    told = other / ("classes.json" if kind == "unet" else "model_index.json")
    told.write_text(told.read_text().replace("truck", "lorry"))
    with pytest.raises(UserError, match="classes of .* are not the base model's"):
        included_state(other, open_base(str(folder)))
    # Its weights fit, but the network that they make is another.
    config = theirs / FILES[kind].partition("/")[0] / "config.json"
    facts = json.loads(config.read_text())
    config.write_text(json.dumps({**facts, "attention_head_dim": 2, "num_attention_heads": 16}))
    with pytest.raises(UserError, match="has the (attention_head_dim|num_attention_heads)"):
        included_state(theirs, open_base(str(folder)))
    another = MODELS["dit" if kind == "unet" else "unet"](tmp_path / "another")
    with pytest.raises(UserError, match="another kind of model"):
        included_state(another, open_base(str(folder)))


def test_a_model_without_its_classes_says_what_it_lacks(tmp_path: Path) -> None:
    model = tiny_class_unet(tmp_path / "unet")
    (model / "classes.json").unlink()
    # As DDPMPipeline saves it.
    (model / "model_index.json").write_text(
        '{"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"],'
        ' "scheduler": ["diffusers", "DDIMScheduler"]}'
    )
    with pytest.raises(UserError, match=r"has no classes\.json.*write one"):
        make_run(str(model), "class:church")


def test_an_attack_on_a_class_asks_whose_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["attack", str(folder), "--concept", "class:church"])
    assert left.value.code == 2
    assert "add --base" in capsys.readouterr().err


def test_classes_of_like_names_have_folders_of_their_own() -> None:
    assert places(["class:cardigan", "class:Cardigan", "class:crane"]) == [
        "class-cardigan",
        "class-cardigan-2",
        "class-crane",
    ]


@pytest.mark.parametrize("method", TOLD)
def test_every_method_of_any_prompt_moves_it(folder: Path, method: str, tmp_path: Path) -> None:
    model, module = Diffusion.load(str(folder)), load_method(method)
    pairs = (("church", "truck"), ("church", ""))
    data = make_data(model, *module.NEEDS.images, pairs=pairs, retained=CLASSES[1:])
    fit, _ = fit_for(model, module, "full", tmp_path)
    before = weights(model)
    module.erase(model, data, quick(method), fit)
    labels = ("class_embedding.weight", "embedding_table.weight")
    assert any(name.endswith(labels) for name in moved(before, model))


def test_methods_of_texts_say_what_they_lack(folder: Path) -> None:
    model = Diffusion.load(str(folder))
    others = [name for name in list_methods() if name not in TOLD]
    assert {"forget_me_not", "uce", "rece", "adv_unlearn", "salun_robust", "sld"} <= {*others}
    for name in others:
        run = make_run(str(folder), "class:church", None, name)
        with pytest.raises(
            UserError, match=f"^{name} .*, and .* is told a class instead of a text"
        ):
            check(run, model)
    for recipe in ("esd-x", "esd-u", "ca"):
        with pytest.raises(UserError, match="is about cross-attention to a text"):
            check(make_run(str(folder), "class:church", None, recipe), model)
    check(make_run(str(folder), "class:church", None, "esd-all"), model)


def test_an_attack_is_held_against_another_class_and_against_none(folder: Path) -> None:
    inquiry = make_inquiry(str(folder), str(folder), "class:owl", Sampler(steps=2))
    erased, floor = (target_of(inquiry, side, lambda _: [], False) for side in ("erased", "floor"))
    assert {r.prompt for r in erased.rows} == {r.prompt for r in erased.shown} == {"owl"}
    assert {r.prompt for r in floor.rows} == {r.prompt for r in floor.shown} == {""}
    after = {r.prompt for r in erased.elsewhere}
    assert len(after) == 1 and after <= {"church", "thing 4"}
    told = {"floor": None, "concept": {"kind": inquiry.concept.kind}}
    assert told_floor(told).endswith("the floor is the base, asked for no class.")


@pytest.mark.parametrize("name", list_attacks())
def test_attacks_bring_back_a_class_or_say_what_they_lack(folder: Path, name: str) -> None:
    model, module = Diffusion.load(str(folder)), load_attack(name)
    settings = SPENT.get(name, module.SETTINGS["full"])
    if name not in ATTACKS:
        with pytest.raises(UserError, match="is told a class and has no text encoder"):
            module.run(model, model, target(), settings, False, seeded())
        return
    before = {key: value.clone() for key, value in model.denoiser.state_dict().items()}
    asked = target()
    plain = model.sample([Shot(row.prompt, row.seed) for row in asked.rows], asked.sampler)
    for random in (False, True):
        try:
            found = module.run(model, model, asked, settings, random, seeded())
        except DoesNotApply:
            assert random and name in SEARCHLESS
            continue
        assert len(found.images) % len(asked.rows) == 0
        assert found.images[0].shape == (16, 16, 3)
        # The model is its own base, from which handing over changes nothing.
        same = name == "round-trip" or (name == "handover" and not random)
        assert same or not np.array_equal(np.stack(found.images[: len(plain)]), plain)
    for key, value in model.denoiser.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_a_run_that_was_cut_off_ends_with_the_same_bits(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(name: str) -> None:
        more = {**SMALL, "steps": 6, "checkpoint_every": 2}
        where = {"model": str(folder), "out": str(tmp_path / name)}
        erase.run(concept="class:church", stages=STAGES, **where, **more)

    real = Fit._gradients

    def cut(self: Fit, step: Any, index: int, moving: Any) -> dict[str, float]:
        if index == 3:
            raise KeyboardInterrupt
        return real(self, step, index, moving)

    run("whole")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Fit, "_gradients", cut)
        run("cut")
    assert not (tmp_path / "cut/model").exists() and (tmp_path / "cut/checkpoints").exists()
    run("cut")
    whole, cut_off = (
        load_file(tmp_path / name / "model" / FILES[kind]) for name in ("whole", "cut")
    )
    assert all(torch.equal(cut_off[name], value) for name, value in whole.items())


@pytest.mark.slow
def test_two_processes_move_the_weights_of_one(kind: str, folder: Path, tmp_path: Path) -> None:
    argv = ["run", "--model", str(folder), "--concept", "class:church", "--device", "cpu"]
    # Adam would turn the rounding of a gradient near zero into a whole step.
    for key, value in {**SMALL, "optimizer": "sgd", "lr": 0.05}.items():
        argv += [f"--{key.replace('_', '-')}", str(value)]
    states = []
    for name, start in (("one", alone), ("two", launch)):
        done = start([*argv, "--out", str(tmp_path / name)])
        assert done.returncode == 0, done.stderr[-2000:]
        states.append(load_file(tmp_path / name / "model" / FILES[kind]))
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6, msg=name)
