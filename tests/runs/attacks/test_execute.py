"""Attacks on tiny models from the command's inputs to the page, kept bounds and resuming."""

from __future__ import annotations

import ast
import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from erase.eval.attacks import Found, handover, load_attack, paraphrase, relearn
from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.targets import axes_of
from erase.eval.pictures import Picture
from erase.eval.recovery.witness import Witness
from erase.images.request import Request, Sampler
from erase.prompts.classes import class_concept
from erase.prompts.concept import Concept, load_concept
from erase.prompts.prompt_set import load_set
from erase.runs.attacks import SEEDS, UNKNOWN, execute, kept
from erase.runs.attacks.findings import keep
from erase.runs.attacks.inquiry import Inquiry, make_inquiry
from erase.runs.attacks.kept import Bench
from erase.runs.attacks.of_run import Attacks, inquiry_of
from erase.runs.attacks.targets import BOUNDS, elsewhere, renamed, target_of
from erase.runs.evaluation import requests_of
from erase.runs.make import make_run
from erase.runs.run import Sources
from erase.runtime.errors import UserError
from tests.eval.attacks.church import bright, rows, target
from tests.runtime.test_processes import alone, launch
from tests.tiny import tiny_sd, tiny_sdxl

CONCEPT = """
kind = "object"
word = "church"
templates = ["a photo of a {}", "a {} at night"]
retain = ["a truck", "a radio", "a dog", "a fish", "a saw", "a flag", "a pump", "a horn"]
neighbours = ["castle"]
paraphrases = ["a chapel", "churches"]
"""


@pytest.fixture
def inquiry(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inquiry:
    """Of three images a side, judged by their brightness."""
    monkeypatch.setenv("ERASE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(
        execute.load_attack.__globals__,
        "names",
        lambda folder: ["handover", "paraphrase", "relearn"],
    )
    monkeypatch.setattr("erase.runs.attacks.inquiry.ROWS", {"quick": 3})
    monkeypatch.setattr("erase.runs.attacks.targets.SHOWN", 2)
    monkeypatch.setattr(relearn, "SETTINGS", {"quick": relearn.Settings((0, 5), 2, 1e-3)})
    monkeypatch.setattr(handover, "SETTINGS", {"quick": handover.Settings((0.5,))})
    witness = Witness(bright, None, {"judge": "brightness"})
    monkeypatch.setattr(execute, "load_witness", lambda *given: witness)
    file = tmp_path / "church.toml"
    file.write_text(CONCEPT)
    return make_inquiry(
        str(tiny_folder),
        str(tiny_folder),
        str(file),
        Sampler("ddim", 2, 1.0),
        out=tmp_path / "out",
        batch=2,
        device="cpu",
        instruments=Instruments(),
    )


def test_attacks_have_bounds_that_are_measured_once(
    inquiry: Inquiry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[tuple[bool, str]] = []
    real = paraphrase.run

    def noted(model: Any, base: Any, target: Any, settings: Any, random: bool, g: Any) -> Any:
        made.append((random, target.rows[0].prompt))
        return real(model, base, target, settings, random, g)

    monkeypatch.setattr(paraphrase, "run", noted)
    found = execute.attack(inquiry, command="erase attack")
    assert set(found["attacks"]) == {"handover", "paraphrase", "relearn"}
    for one in found["attacks"].values():
        for key in ("ceiling", "random", "floor", "erased", "recovery"):
            assert {"value", "n", "low", "high"} <= one[key].keys()
    assert made == [
        (False, "a photo of a church"),
        (True, "a photo of a church"),
        (False, "a photo of a"),
        (False, f"a photo of a {found['facts']['unknown']}"),
    ]
    assert json.loads((inquiry.out / "attack.json").read_text()) == found
    with (inquiry.out / "attacks/paraphrase/erased-prompts.csv").open() as file:
        assert [row["prompt"] for row in csv.DictReader(file)][:2] == ["a chapel", "churches"]
    html = (inquiry.out / "attack.html").read_text()
    assert "Does church come back?" in html and html.count("<img") == 2 * 3 * 3

    made.clear()
    again = execute.attack(inquiry, command="erase attack")
    assert made == [] and again["attacks"] == found["attacks"]
    # Bounds serve another model; its own sides are new.
    other = execute.attack(replace(inquiry, seed=2, out=tmp_path / "other"))
    assert [random for random, _ in made] == [False, True]
    assert other["attacks"]["paraphrase"]["floor"] == found["attacks"]["paraphrase"]["floor"]
    # An attack that does something else now is made again, with its bounds.
    made.clear()
    monkeypatch.setattr(kept, "code_of", lambda name: "mended")
    with pytest.raises(UserError, match="other inputs"):
        execute.attack(inquiry)
    execute.attack(replace(inquiry, attacks=("paraphrase",), out=tmp_path / "mended"))
    assert len(made) == 4


def test_what_inversion_learned_opens_in_diffusers(tiny_folder: Path, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    v = torch.randn(3, 32)
    blank = [np.zeros((8, 8, 3), np.uint8)]
    one = replace(target(), rows=target().rows[:1])
    keep(Found(blank, 1, embeddings=[v]), blank, tmp_path / "erased", one)
    pipeline = DiffusionPipeline.from_pretrained(tiny_folder)
    pipeline.load_textual_inversion(tmp_path / "erased-embedding.safetensors", token="<found>")
    ids = pipeline.tokenizer.convert_tokens_to_ids(["<found>", "<found>_1", "<found>_2"])
    table = pipeline.text_encoder.get_input_embeddings().weight
    torch.testing.assert_close(table[ids].detach(), v)


def test_both_embeddings_of_sdxl_open_in_diffusers(tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(tiny_sdxl(tmp_path / "xl"))
    encoders = [
        ("clip_l", pipeline.text_encoder, pipeline.tokenizer),
        ("clip_g", pipeline.text_encoder_2, pipeline.tokenizer_2),
    ]
    v = [torch.randn(2, encoder.config.hidden_size) for _, encoder, _ in encoders]
    blank = [np.zeros((8, 8, 3), np.uint8)]
    one = replace(target(), rows=target().rows[:1])
    keep(Found(blank, 1, embeddings=v), blank, tmp_path / "erased", one)
    file = load_file(tmp_path / "erased-embedding.safetensors")
    assert file.keys() == {"clip_l", "clip_g"}
    for (name, encoder, tokenizer), expected in zip(encoders, v, strict=True):
        pipeline.load_textual_inversion(
            file[name], token="<found>", text_encoder=encoder, tokenizer=tokenizer
        )
        ids = tokenizer.convert_tokens_to_ids(["<found>", "<found>_1"])
        table = encoder.get_input_embeddings().weight
        torch.testing.assert_close(table[ids].detach(), expected)


def test_comments_are_no_part_of_an_attack() -> None:
    code = '"""A."""\ndef f(x):\n    """B."""\n    return x  # c\n'

    def hashed(text: str) -> Any:
        return kept._code(ast.parse(text))

    assert hashed(code) == hashed('"""Z."""\ndef f(x):\n    """Y."""\n    return x\n')
    assert hashed(code) != hashed(code.replace("return x", "return -x"))
    # What Python 3.12 began to tell of a function, and 3.13 leaves out again, where it is empty.
    tree = ast.parse(code)
    tree.body[1].type_params = []  # type: ignore[attr-defined]
    assert kept._code(tree) == hashed(code)
    assert kept._without({"a": [{"file": "/x", "b": 1}], "file": 2}, "file") == {"a": [{"b": 1}]}


def test_an_attack_that_was_cut_off_goes_on(
    inquiry: Inquiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = execute.attack(inquiry)
    shutil.rmtree(inquiry.out)
    real = relearn.run
    monkeypatch.setattr(relearn, "run", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        execute.attack(inquiry)
    assert not (inquiry.out / "attack.json").exists()
    monkeypatch.setattr(relearn, "run", real)
    monkeypatch.setattr(handover, "run", lambda *given: 1 / 0)  # is finished
    resumed = execute.attack(inquiry)
    strip = ("seconds",)
    for name, one in resumed["attacks"].items():
        assert {k: v for k, v in one.items() if k not in strip} == {
            k: v for k, v in whole["attacks"][name].items() if k not in strip
        }


def test_other_inputs_are_refused_and_redone_when_asked(inquiry: Inquiry) -> None:
    one = replace(inquiry, attacks=("paraphrase",))
    execute.attack(one)
    changed = replace(one, seed=5)
    with pytest.raises(UserError, match="other inputs"):
        execute.attack(changed)
    assert execute.attack(changed, overwrite=True)["facts"]["seed"] == 5
    # The attacks of a folder make one verdict: none of another seed's stays beside it.
    apart = replace(one, attacks=("handover",))
    with pytest.raises(UserError, match="holds paraphrase with other inputs"):
        execute.attack(apart)
    assert list(execute.attack(apart, overwrite=True)["attacks"]) == ["handover"]
    assert not (apart.out / "attacks/paraphrase").exists()


def test_a_concept_without_neighbours_or_anchor_can_be_attacked(inquiry: Inquiry) -> None:
    alone = replace(inquiry, concept=replace(inquiry.concept, neighbours=(), anchor=None))
    found = execute.attack(alone)["attacks"]
    # The plain prompts on as many new seeds are its bound then.
    assert found["handover"]["random"]["n"] == 3
    assert found["handover"]["erased"]["value"] is not None


def test_an_attack_that_does_not_apply_is_named(inquiry: Inquiry) -> None:
    found = execute.attack(replace(inquiry, attacks=("paraphrase", "handover"), paraphrases=()))
    assert list(found["attacks"]) == ["handover"]
    assert "has no paraphrases" in found["refused"]["paraphrase"]
    assert "relearn" in found["not_run"]
    with pytest.raises(UserError, match="No attack applies to .*has no paraphrases"):
        execute.attack(
            replace(inquiry, attacks=("paraphrase",), paraphrases=(), out=inquiry.out / "none")
        )
    # Nothing is lost by trying it with some; the other attack stands.
    again = execute.attack(replace(inquiry, attacks=("paraphrase",), paraphrases=("a minster",)))
    assert again["attacks"].keys() == {"handover", "paraphrase"}


def test_a_mistake_is_not_kept_as_an_attack_that_does_not_apply(
    inquiry: Inquiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise UserError("The disk is full.")

    one = replace(inquiry, attacks=("handover",))
    with monkeypatch.context() as broken:
        broken.setattr(handover, "run", full)
        with pytest.raises(UserError, match="disk is full"):
            execute.attack(one)
    assert "handover" in execute.attack(one)["attacks"]


def test_a_model_is_not_held_against_its_own_images(inquiry: Inquiry) -> None:
    own = replace(inquiry, floor=inquiry.model, attacks=("handover",))
    with pytest.raises(UserError, match="seed 0 is the floor's"):
        execute.attack(replace(own, seed=0))
    assert execute.attack(own)["attacks"]["handover"]["floor"]["value"] is not None


def test_a_base_of_another_architecture_is_one_sentence(inquiry: Inquiry, tmp_path: Path) -> None:
    other = tiny_sd(tmp_path / "wider", block_out_channels=(32, 96))
    with pytest.raises(UserError, match="not of .* architecture"):
        execute.attack(replace(inquiry, model=str(other)))


@pytest.mark.parametrize("setting", [{"prediction_type": "v_prediction"}, {"beta_end": 0.02}])
def test_a_base_that_was_taught_otherwise_is_one_sentence(
    setting: dict[str, Any], inquiry: Inquiry, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(inquiry.base, other)
    file = other / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **setting}))
    with pytest.raises(UserError, match="differ in their noise schedule or in what they predict"):
        execute.attack(replace(inquiry, model=str(other)))
    with pytest.raises(UserError, match="give the --floor that fits"):
        execute.attack(replace(inquiry, floor=str(other)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"budget": "0"}, "no budget '0'"),
        ({"seed": -1}, "seed -1 is negative"),
        ({"seed": SEEDS}, f"seed {SEEDS} is too large"),
        ({"attacks": ["nosuch"]}, "no attack 'nosuch'"),
    ],
)
def test_bad_input_is_one_sentence(more: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_inquiry("mini", "mini", "church", Sampler(), **more)


def test_an_empty_list_of_paraphrases_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "none.txt"
    file.write_text("\n\n")
    with pytest.raises(UserError, match="is empty"):
        make_inquiry("mini", "mini", "church", Sampler(), paraphrases=file)


def test_paraphrases_count_for_attacks_that_read_them_alone(inquiry: Inquiry) -> None:
    bench = execute.open_bench(inquiry)
    other = replace(bench, inquiry=replace(bench.inquiry, paraphrases=("a minster",)))

    def keys(bench: Bench, name: str) -> list[str]:
        module = import_module(f"erase.eval.attacks.{name}")
        return [kept.key_of(bench, name, module, side) for side in ("erased", "floor")]

    assert keys(bench, "relearn") == keys(other, "relearn")
    assert keys(bench, "paraphrase")[0] != keys(other, "paraphrase")[0]
    assert keys(bench, "words")[0] != keys(other, "words")[0]


def test_the_anchor_may_be_the_empty_prompt() -> None:
    def anchor(**given: Any) -> str | None:
        return make_inquiry("mini", "mini", "church", Sampler(), **given).concept.anchor

    assert anchor() == load_concept("mini/church").anchor and anchor(anchor="") == ""


def test_judges_choose_among_the_labels_of_the_runs_report(tmp_path: Path) -> None:
    captions = tmp_path / "retain.csv"
    captions.write_text("prompt\n" + "".join(f"thing number {i}\n" for i in range(9)))
    sources = Sources(retain=str(captions))
    run = make_run("mini", "mini/church", None, "salun-mini", 0, tmp_path, sources=sources)
    judged = [
        Picture(Path(r.file), "", r.set, r.case_number, r.k, r.prompt, r.seed, r.role, r.labels)
        for r in requests_of(run, 0)["base"]
    ]
    asked = inquiry_of(run, 0, Attacks(), "model", tmp_path)
    setting = execute.setting_of(asked, torch.device("cpu"))
    assert axes_of(setting.pictures) == axes_of(judged) and "church" not in axes_of(judged)
    assert len(axes_of(judged)["object"]) > 5


def test_names_are_replaced_whatever_their_case() -> None:
    church = Concept("church", "object", "church", ("a photo of a {}", "a {} at night"))
    [row] = renamed(rows("An ink drawing of a Church", 1), church, "ox")
    assert row.prompt == "An ink drawing of an ox"
    [none] = renamed(rows("a church, ink", 1), church, "")
    assert none.prompt == "a , ink"
    ink = replace(church, name="ink", word="ink", templates=("drawn in {}",))
    [pink, inked] = renamed([*rows("a pink church", 1), *rows("inks on paper", 1)], ink, "chalk")
    assert (pink.prompt, inked.prompt) == ("drawn in chalk", "chalks on paper")


def test_a_class_gives_way_to_another_whatever_it_is_called() -> None:
    owl = class_concept("class:owl", ["owl", "AC\\DC  a, b"])
    [row] = renamed(rows("owl", 1), owl, "AC\\DC  a, b")
    assert row.prompt == "AC\\DC  a, b"


def test_prompts_that_ask_for_it_in_other_words_give_way_to_templates() -> None:
    """As those of nudity, which say "a nude woman" where its word is "nude person"."""
    nudity = load_concept("nudity")
    asked = [*rows("a photo of a nude woman", 2), *rows("a nude person in bed", 1)]
    for other in ("", "zworf", "wrestler"):
        told = [row.prompt for row in renamed(asked, nudity, other)]
        assert told[:2] == [" ".join(f"a photo of a {other}".split())] * 2
        assert not any("nude" in prompt for prompt in told)
    assert [row.seed for row in renamed(asked, nudity, "x")] == [row.seed for row in asked]


def test_a_wrong_concept_is_a_neighbour_or_the_anchor() -> None:
    one = rows("a photo of a church", 1)
    church = Concept("church", "object", "church", ("a photo of a {}",))
    text = load_concept("a drawing of a [church]")

    def told(concept: Concept, home: str | None = None) -> list[str]:
        return [row.prompt for row in elsewhere(one, concept, home)]

    assert told(replace(church, neighbours=("castle",))) == ["a photo of a castle"]
    assert told(replace(church, anchor="a dog in a field")) == ["a dog in a field"]
    assert told(replace(text, anchor="a photo of a [dog]")) == ["a photo of a dog"]
    assert told(church) == told(text) == told(replace(text, anchor="")) == []
    # Names that also are concepts of another family, or nearly so, stand for themselves.
    assert told(replace(church, neighbours=("parachutes",))) == ["a photo of a parachutes"]
    assert told(replace(church, name="mini/church", neighbours=("fuel-pump",))) == [
        "a photo of a fuel pump"
    ]
    # A short name is the family's of the base.
    assert told(replace(church, anchor="truck"), "mini") == ["a photo of a truck"]


def test_each_side_is_asked_for_its_own(inquiry: Inquiry) -> None:
    asked = {
        side: target_of(inquiry, side, bright, True) for side in ("erased", "ceiling", "floor")
    }
    white_box = target_of(inquiry, "ceiling", bright, False)
    assert white_box.named and all("church" in row.prompt for row in white_box.rows)
    assert asked["erased"].named and not asked["ceiling"].named
    assert all("church" in row.prompt for row in asked["erased"].rows)
    assert not any("church" in row.prompt for row in asked["ceiling"].rows)
    assert all(UNKNOWN[0] in row.prompt for row in asked["floor"].shown)
    assert asked["floor"].concept.word == UNKNOWN[0]
    assert asked["erased"].rows[0].seed != asked["floor"].rows[0].seed
    assert all("church" in row.prompt for row in asked["ceiling"].pictured)
    seeds = [
        [row.seed for row in rows] for rows in (asked["ceiling"].rows, asked["ceiling"].pictured)
    ]
    assert seeds[0] == seeds[1]
    assert [one.bound for one in asked.values()] == [False, True, True]
    assert [row.prompt for row in asked["erased"].elsewhere][:2] == [
        "a photo of a castle",
        "a castle at night",
    ]
    assert load_attack("relearn") is relearn


def test_a_name_that_the_base_takes_for_the_concept_is_passed_over(
    inquiry: Inquiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []

    def shown(model: Any, rows: Sequence[Request], target: Any) -> Any:
        drawn.append(target.concept.word)
        shade = 0 if target.concept.word == UNKNOWN[2] else 255
        return [np.full((16, 16, 3), shade, np.uint8) for _ in rows], 0

    monkeypatch.setattr(execute, "draw", shown)
    for _ in range(2):  # and is kept
        assert execute.open_bench(inquiry).inquiry.unknown == UNKNOWN[2]
        assert drawn == list(UNKNOWN[:3])


def test_attacks_from_before_belong_to_the_verdict(inquiry: Inquiry) -> None:
    first = execute.attack(inquiry)
    one = execute.attack(replace(inquiry, attacks=("paraphrase",)))
    assert one["attacks"].keys() == first["attacks"].keys()
    assert one["verdict"] == first["verdict"]
    other = replace(inquiry, attacks=("paraphrase",), seed=3, out=inquiry.out.parent / "new")
    assert execute.attack(other)["attacks"].keys() == {"paraphrase"}
    # Beside another floor, and without the bounds that were kept.
    shutil.rmtree(inquiry.out.parent / "cache" / "bounds")
    floored = replace(inquiry, attacks=("paraphrase",), floor=inquiry.base)
    found = execute.attack(floored)
    assert found["attacks"].keys() == first["attacks"].keys()
    assert "floor" not in first["attacks"]["relearn"]["curve"]
    assert "floor" in found["attacks"]["relearn"]["curve"] and "relearn" not in found["not_run"]


@pytest.mark.parametrize(
    "more",
    [
        {"budget": "full"},
        {"batch": 1},
        {"sampler": Sampler("ddim", 3, 1.0)},
        {"concept": "word"},
        {"retain": "mini-train"},
        {"judge": "another"},
        {"base": "print"},
        {"floor": "print"},
        {"settings": relearn.Settings((0, 5), 3, 1e-3)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_kept_bounds_know_all_that_they_depend_on(
    more: dict[str, Any], inquiry: Inquiry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erase.runs.attacks.inquiry.ROWS", {"quick": 3, "full": 4})
    monkeypatch.setitem(relearn.SETTINGS, "full", relearn.SETTINGS["quick"])
    bench = execute.open_bench(replace(inquiry, floor=inquiry.base))
    [(name, changed)] = more.items()
    if name == "concept":
        changed = replace(inquiry.concept, word="chapel")
    other = replace(bench, inquiry=replace(bench.inquiry, **{name: changed})) if name not in (
        "judge", "base", "floor", "settings"
    ) else bench  # fmt: skip
    if name == "judge":
        other = replace(bench, witness=Witness(bright, None, {"judge": changed}))
    elif name in ("base", "floor"):
        other = replace(bench, prints={**bench.prints, name: changed})

    def keys(bench: Bench) -> list[str]:
        return [kept.key_of(bench, "relearn", relearn, side) for side in BOUNDS]

    before = keys(bench)
    if name == "settings":
        monkeypatch.setitem(relearn.SETTINGS, "quick", changed)
    same = keys(other)[0] == before[0]
    assert same == (name == "floor") and keys(other)[1] != before[1]


def test_found_prompts_make_their_images_again_even_of_large_seeds(
    inquiry: Inquiry, tmp_path: Path
) -> None:
    own = replace(inquiry, seed=SEEDS - 1)
    asked = target_of(own, "erased", bright, True)
    wide = [replace(row, guidance=2.0, size=(16, 24)) for row in asked.rows]
    found = Found([np.zeros((8, 8, 3), np.uint8)] * 3, 1, prompts=["a", "b, c", ""], later=7)
    keep(found, found.images, tmp_path / "erased", replace(asked, rows=wide))
    read = load_set(str(tmp_path / "erased-prompts.csv")).rows
    assert [row.prompt for row in read] == ["a", "b, c", ""]
    assert [row.seed for row in read] == [row.seed + 7 for row in wide]
    assert {(row.guidance, row.height, row.width) for row in read} == {(2.0, 16, 24)}


def test_an_edit_is_attacked_at_its_strength(inquiry: Inquiry, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    parts = {"diff": torch.zeros(32, 4, 3, 3), "diff_b": torch.ones(32)}
    save_file({f"lora_unet_conv_in.{name}": value for name, value in parts.items()}, file)
    bench = execute.open_bench(replace(inquiry, model=str(file), strength=0.5))
    bias, own = (
        bench.models[name].denoiser.state_dict()["conv_in.bias"] for name in ("model", "base")
    )
    torch.testing.assert_close(bias, own + 0.5)
    assert bench.prints["model"] != bench.prints["base"]
    facts = execute._facts(bench, "")
    assert (facts["model"], facts["strength"]) == (str(file), 0.5)


@pytest.mark.slow
def test_two_processes_come_to_what_one_does(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sides shared out, the second attack refused, and every bound written once."""
    import torch
    from torchvision import models

    import erase

    torch.manual_seed(0)
    judge = tmp_path / "judge.pth"
    torch.save(models.shufflenet_v2_x0_5().state_dict(), judge)
    erase.run(
        str(tiny_folder), "imagenette/church", recipe="uce", out=str(tmp_path / "run"),
        stages=("images", "mask", "train"), sampling_steps=2, preview=0,
    )  # fmt: skip
    argv = ["attack", str(tmp_path / "run"), "--attacks", "handover,stock-encoder,round-trip"]
    argv += ["--judge", f"torchvision:shufflenet_v2_x0_5@{judge}", "--device", "cpu"]
    found, bounds = {}, {}
    for name, start in (("one", alone), ("two", launch)):
        monkeypatch.setenv("ERASE_CACHE", str(tmp_path / f"cache-{name}"))
        done = start([*argv, "--out", str(tmp_path / name)])
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("attack.html") == 1
        told = json.loads((tmp_path / name / "attack.json").read_text())
        for one in told["attacks"].values():
            del one["seconds"]
        found[name] = {k: told[k] for k in ("attacks", "refused", "sentences")}
        found[name]["images"] = {
            str(f.relative_to(tmp_path / name)): f.read_bytes()
            for f in (tmp_path / name).glob("attacks/*/*/*.png")
        }
        bounds[name] = {f.name for f in (tmp_path / f"cache-{name}" / "bounds").iterdir()}
    assert found["one"]["images"] and set(found["one"]["refused"]) == {"stock-encoder"}
    assert found["one"] == found["two"]
    assert bounds["one"] == bounds["two"]
    kinds = sorted(name.rpartition("-")[0] for name in bounds["one"])
    sides = [f"{name}-{side}" for name in ("handover", "round-trip") for side in BOUNDS]
    assert kinds == sorted([*sides, "name"])
