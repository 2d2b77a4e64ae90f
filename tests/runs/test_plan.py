"""What the stages of a run read, hashed: runs that were finished before stay finished."""

from __future__ import annotations

import pytest

from erase.recipes.recipe import keys, list_recipes
from erase.runs.make import make_run
from erase.runs.plan import make_plan
from erase.runtime.files import digest

MODEL = {"denoiser": "abc", "vae": "def"}
PINNED = {
    "adv-unlearn": "8df372c4051c",
    "adv-unlearn-mini": "f257bc796125",
    "ca": "4512f14a8b61",
    "ca-mini": "bae8bb449001",
    "ca-mini-class": "ff45e6115c5a",
    "esd-2025-all": "85fd038bd5c5",
    "esd-2025-u": "3e4ddc914413",
    "esd-2025-x": "05a2ea6556a7",
    "esd-2025-x-strict": "373ea494bfc2",
    "esd-all": "7711b53a1052",
    "esd-all-mini-class": "1150d78ee56d",
    "esd-u": "7944adf8545e",
    "esd-u-mini": "d69fb16981f0",
    "esd-x": "a113adc23d82",
    "esd-x-mini": "31fedf22a4d4",
    "esd-x-strict": "783ab047a5c6",
    "fmn": "47465d1f97c8",
    "fmn-mini": "677a9a4b76c7",
    "ga": "89cf098ed88d",
    "ga-mini": "9aaf9f9e2e66",
    "ga-mini-class": "6d0bd3f2b800",
    "negative-prompt": "a1a4fb922563",
    "negative-prompt-mini": "41889cd1b790",
    "rece": "5f61cea47bb3",
    "rece-mini": "806736c0276d",
    "salun-ddpm": "f655009e4a05",
    "salun-mini": "199cd091e3a3",
    "salun-mini-class": "76be9edbf6cf",
    "salun-no-mask": "b1bc048d8f04",
    "salun-no-mask-mini": "a894c12a09f8",
    "salun-no-mask-mini-class": "732a34ce0383",
    "salun-random-mask": "ba0894fe7cde",
    "salun-random-mask-mini": "6484818443a0",
    "salun-random-mask-mini-class": "be4272dc417d",
    "salun-robust": "6e9b545db430",
    "salun-robust-mini": "57c0ad6c07d7",
    "salun-robust-no-mask-mini": "fc87ca8fd9f1",
    "salun-robust-random-mask-mini": "c467bdbf96f5",
    "salun-sd": "e000d22d1267",
    "salun-sd14-imagenette": "2f76cbc08289",
    "salun-sd14-nudity": "d8ceb3ec6eb6",
    "salun-sd14-nudity-robust": "26d5ab22411c",
    "salun-searched-mini": "a4a23c90c239",
    "salun-searched-no-mask-mini": "87fef8707ea8",
    "salun-searched-random-mask-mini": "94110f17da32",
    "sld": "7aa30011fe30",
    "sld-mini": "01700270cbb9",
    "uce": "d11b868aa5ac",
    "uce-mini": "d37f602184e6",
}


def _hashed(name: str) -> str:
    model, concept = "some/model", "imagenette/church"
    if name.endswith("-mini"):
        model, concept = "mini", "church"
    elif name.endswith("-mini-class"):
        model, concept = "mini-class", "class:church"
    return digest(make_plan(make_run(model, concept, recipe=name, seed=3), MODEL).digests())[:12]


@pytest.mark.parametrize("name", list_recipes())
def test_no_input_of_a_stage_has_changed(name: str) -> None:
    """A hash here changes with the recipe file, its prompts and nothing else."""
    assert _hashed(name) == PINNED[name]


def test_which_settings_a_stage_reads() -> None:
    sampling = {"size", "sampler", "sampling_steps", "guidance_scale", "sampling_batch"}
    assert set(keys("base")) == set(keys("erased")) == sampling
    assert set(keys("images")) == sampling | {f"{r}_images" for r in ("forget", "retain", "anchor")}
    assert set(keys("mask")) & set(keys("train")) == {"low_memory"}
    assert "checkpoint_every" not in keys("images", "mask", "train", "base", "erased", "eval")


def test_the_word_that_a_method_looks_for_is_read_by_its_training() -> None:
    def trained(recipe: str, concept: str) -> str:
        run = make_run("some/model", concept, "a truck", recipe=recipe)
        return make_plan(run, MODEL).digests()["train"]

    church, photo = "a photo of a [church]", "a [photo] of a church"
    assert trained("fmn", church) != trained("fmn", photo)
    assert trained("esd-x", church) == trained("esd-x", photo)
    plain = make_run("some/model", "a photo of a church", "a truck", recipe="fmn")
    assert "words" not in make_plan(plain, MODEL).inputs["train"]


def test_a_saliency_over_found_prompts_reads_what_finds_them() -> None:
    def inputs(recipe: str, **given: object) -> dict[str, str]:
        run = make_run("mini", "church", recipe=recipe, seed=3, overrides=given)
        return make_plan(run, MODEL).digests()

    plain, wider = inputs("salun-robust-mini"), inputs("salun-robust-mini", bank_spread=0.9)
    assert plain["mask"] != wider["mask"] and plain["images"] == wider["images"]
    # Without a saliency no prompt is found for one.
    control = "salun-robust-random-mask-mini"
    assert inputs(control)["mask"] == inputs(control, bank_spread=0.9)["mask"]
    assert inputs("salun-mini")["mask"] == inputs("salun-mini", alpha=2.0)["mask"]


def test_training_does_not_depend_on_how_images_are_made_where_none_are() -> None:
    def digests(recipe: str, anchor: str = "a truck", **given: object) -> dict[str, str]:
        run = make_run("mini", "church", anchor, recipe=recipe, overrides=given)
        return make_plan(run, MODEL).digests()

    for recipe in ("esd-x-mini", "uce-mini"):
        plain, finer = digests(recipe), digests(recipe, sampling_steps=7, sampling_batch=3)
        assert plain["train"] == finer["train"] and plain["base"] != finer["base"]
    assert digests("esd-x-mini")["train"] == digests("esd-x-mini", "a dog")["train"]
    assert digests("uce-mini")["train"] != digests("uce-mini", "a dog")["train"]
    # What it is trained on is made.
    plain, finer = digests("salun-mini"), digests("salun-mini", sampling_steps=7)
    assert plain["train"] != finer["train"]
