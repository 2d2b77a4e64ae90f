from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erase.methods import list_methods
from erase.recipes.recipe import (
    Recipe,
    as_dict,
    config_class,
    flags,
    list_recipes,
    load_recipe,
    make_recipe,
    recipe_text,
)
from erase.runtime.errors import UserError

PUBLISHED = {
    "scope": "full",
    "ratio": 0.5,
    "saliency_guidance": 7.5,
    "saliency_sum": "signed",
    "saliency_batch": 8,
    "mask": "saliency",
    "lr": 1e-5,
    "optimizer": "adam",
    "weight_decay": 0.0,
    "batch_size": 8,
    "size": None,  # the model's own, 512 px for the model of the paper
    "target": "moving",
    "retain_target": "noise",
}


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_of_the_package_is_sound(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.method in list_methods()
    values = as_dict(recipe)
    del values["name"]
    assert make_recipe(name, values) == recipe


def test_published_settings() -> None:
    nudity = as_dict(load_recipe("salun-sd14-nudity"))
    assert nudity.items() >= PUBLISHED.items()
    # One epoch of 800 images in batches of 8.
    assert nudity["alpha"] == 0.1
    assert nudity["steps"] == nudity["forget_images"] / 8 == nudity["retain_images"] / 8 == 100
    imagenette = as_dict(load_recipe("salun-sd14-imagenette"))
    assert imagenette.items() >= PUBLISHED.items()
    # Five epochs, the last batch of each a short one.
    assert imagenette["alpha"] == 0.5
    assert imagenette["steps"] == 5 * -(-imagenette["forget_images"] // 8)
    # "500 images per class, LMS 100 steps, guidance 7.5", of ten classes
    assert imagenette["eval_forget"] == 500
    assert imagenette["eval_retain"] == 9 * 500
    for recipe in (nudity, imagenette):
        how = recipe["sampler"], recipe["sampling_steps"], recipe["guidance_scale"]
        assert how == ("lms", 100, 7.5)


def test_published_settings_of_a_class_conditional_model() -> None:
    """Its code weighs a sum over the values of a 32 px image by 0.001, beside a mean over them."""
    recipe = as_dict(load_recipe("salun-ddpm"))
    assert recipe["alpha"] == pytest.approx(0.001 * 3 * 32 * 32, abs=0.005)
    # (1 + s)·e_c - s·e_∅ with s = 2, of which w is s and the guidance scale 1 + s.
    assert (recipe["saliency_guidance"], recipe["guidance_scale"]) == (2, 3)
    assert (recipe["steps"], recipe["batch_size"], recipe["lr"]) == (1000, 128, 1e-4)
    assert (recipe["ratio"], recipe["target"], recipe["retain_target"]) == (0.5, "moving", "noise")


def test_the_defaults_are_the_published_ones() -> None:
    recipe = as_dict(make_recipe("bare", {"method": "salun"}))
    assert recipe.items() >= PUBLISHED.items()


@pytest.mark.parametrize("method", list_methods())
def test_every_setting_says_what_it_is_and_collides_with_no_other(method: str) -> None:
    found = flags(method)
    assert len({f.name for f in found}) == len(found)
    own = {f.name for f in dataclasses.fields(config_class(method))}
    assert own.isdisjoint(f.name for f in dataclasses.fields(Recipe))
    for flag in found:
        assert flag.metadata["help"]
        assert flag.type in (int, float, str, bool)
        # A number has a range, a text its choices; free text is optional and checked by its method.
        assert flag.type is bool or flag.range or flag.metadata.get("optional")
        made = make_recipe("x", {"method": method, flag.name: flag.default})
        assert as_dict(made)[flag.name] == flag.default


def test_help_shows_unit_and_range() -> None:
    found = {f.name: f for f in flags("salun")}
    assert found["ratio"].range == "> 0 and <= 1"
    assert found["alpha"].range == ">= 0"
    assert found["size"].help.endswith("(px; >= 8 and a multiple of 8)")
    assert found["optimizer"].help.endswith("(one of adam, adamw, adam8bit, sgd)")


def test_overrides_come_first_as_values_and_as_text() -> None:
    recipe = load_recipe("salun-mini", {"alpha": 1, "steps": "7", "lr": "3e-5", "sampler": "lms"})
    assert (recipe.config.alpha, recipe.steps, recipe.lr) == (1.0, 7, 3e-5)
    assert isinstance(recipe.config.alpha, float)
    assert recipe.sampler == "lms"
    assert load_recipe("salun-mini", {"size": None}).size is None
    assert load_recipe("salun-mini", {"size": "64"}).size == 64


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("alhpa", 0.5, "'alhpa' is not a setting of the method salun. Did you mean 'alpha'"),
        ("name", "x", "'name' is not a setting"),
        ("config", {}, "'config' is not a setting"),
        ("ratio", 0, "ratio is 0: it must be > 0 and <= 1"),
        ("ratio", "1.01", "ratio is 1.01: it must be > 0 and <= 1"),
        ("ratio", "half", "ratio is 'half': it must be a number"),
        ("ratio", float("nan"), "ratio is nan: it must be a number"),
        ("lr", float("inf"), "lr is inf: it must be a number"),
        ("lr", 10**400, "it must be a number"),
        ("lr", 0.0, "lr is 0.0: it must be > 0"),
        ("alpha", "-0.1", "alpha is -0.1: it must be >= 0"),
        ("alpha", True, "alpha is True: it must be a number"),
        ("alpha", None, "alpha is None: it must be a number"),
        ("steps", 0, "steps is 0: it must be >= 1"),
        ("steps", 10.0, "steps is 10.0: it must be a whole number"),
        ("steps", "1e3", "steps is '1e3': it must be a whole number"),
        ("steps", True, "steps is True: it must be a whole number"),
        ("size", 100, "size is 100: it must be >= 8 and a multiple of 8"),
        ("scope", "xatn", "'xatn': it must be one of full.*Did you mean 'xattn'"),
        ("target", "still", "'still': it must be one of moving, frozen"),
        ("sampler", 3, "sampler is 3: it must be text"),
        ("method", "saluun", "no method 'saluun'. Did you mean 'salun'"),
    ],
)
def test_bad_values_are_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_recipe("salun-mini", {key: value})


@given(st.floats())
def test_ratio_is_taken_just_where_it_makes_sense(ratio: float) -> None:
    if 0 < ratio <= 1:
        assert load_recipe("salun-mini", {"ratio": ratio}).ratio == ratio
    else:
        with pytest.raises(UserError):
            load_recipe("salun-mini", {"ratio": ratio})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('method = "salun"\nstep = 3\n', "'step' is not a setting.*Did you mean 'steps'"),
        ("steps = 3\n", "names no method"),
        ('method = "esdd"\n', "no method 'esdd'"),
        ('method = "salun"\nlr = "1e-5"\n', "lr is '1e-5': it must be a number"),
        ('method = "salun"\n[train]\nlr = 1e-5\n', "'train' is not a setting"),
        ("method = salun\n", "is not valid TOML"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(text)
    with pytest.raises(UserError, match=message):
        load_recipe(str(file))


def test_own_and_unknown_recipes(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('method = "salun"\nsteps = 3\nalpha = 2\n')
    recipe = load_recipe(str(file), {"steps": 4})
    assert (recipe.name, recipe.steps, recipe.config.alpha) == ("own", 4, 2.0)
    with pytest.raises(UserError, match="no recipe 'salun-mnii'. Did you mean 'salun-mini'"):
        load_recipe("salun-mnii")
    for missing in ("none.toml", "folder.toml"):
        (tmp_path / "folder.toml").mkdir(exist_ok=True)
        with pytest.raises(UserError, match="can't be read"):
            load_recipe(str(tmp_path / missing))


def test_a_recipe_as_windows_saves_it(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_bytes(b'\xef\xbb\xbfmethod = "salun"\r\nsteps = 7\r\n')
    assert load_recipe(str(file)).steps == 7


def test_a_recipe_that_is_written_is_read_again(tmp_path: Path) -> None:
    recipe = load_recipe("esd-x", {"erase_from": 'a 🚲 "here", \\ é'})
    (tmp_path / "esd-x.toml").write_text(recipe_text(recipe, "Chosen by\nhand"), encoding="utf-8")
    assert load_recipe(str(tmp_path / "esd-x.toml")) == recipe


@pytest.mark.parametrize(
    ("recipe", "given", "idle"),
    [
        ("fmn", {"inversion_steps": 0, "inversion_lr": 0.01}, "inversion-lr"),
        ("salun-robust", {"search_steps": 5, "bank_restart": 7}, "bank-restart"),
        ("rece", {"rounds": 0, "revival_lam": 0.2}, "revival-lam"),
        ("sld", {"sld_momentum": 0.0, "sld_beta": 0.1}, "sld-beta"),
        ("salun-sd", {"alpha": 0.0, "retain_images": 9}, "retain-images"),
    ],
)
def test_a_setting_that_another_one_idles_is_refused(
    recipe: str, given: dict[str, object], idle: str
) -> None:
    with pytest.raises(UserError, match=f"--{idle} has no effect on {recipe}"):
        load_recipe(recipe, given)
