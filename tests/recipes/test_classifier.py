"""Recipes of classifiers: every one is read, and what does not fit is one sentence."""

from __future__ import annotations

import pytest

from erase.classifiers.methods import list_methods, load_method
from erase.recipes.classifier import (
    as_dict,
    keys,
    list_recipes,
    load_recipe,
    make_recipe,
    recipe_about,
)
from erase.runtime.errors import UserError


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_makes_itself_again_and_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    settings = {k: v for k, v in as_dict(recipe).items() if k != "name"}
    assert make_recipe(name, settings) == recipe
    assert recipe_about(name)


@pytest.mark.parametrize("method", list_methods())
def test_a_method_runs_on_its_defaults(method: str) -> None:
    recipe = load_recipe(method)
    needs = load_method(method).NEEDS
    assert recipe.config == load_method(method).Config()
    assert ("lr" in as_dict(recipe)) == needs.loop
    assert ("ratio" in as_dict(recipe)) == needs.mask
    assert needs.mask or recipe.mask == "none"


def test_stages_read_their_own_settings() -> None:
    assert keys("salun", "mask") == ("mask", "ratio")
    assert {"lr", "epochs", "alpha", "order"} <= set(keys("salun", "unlearn"))


@pytest.mark.parametrize(
    ("name", "given", "told"),
    [
        ("salum", {}, "no recipe 'salum'. Did you mean 'salun'"),
        ("salun", {"lr": "fast"}, "lr is 'fast': it must be a number"),
        ("salun", {"alpha": -1}, "alpha is -1: it must be >= 0"),
        ("salun", {"beta": 1}, "'beta' is not a setting of the method salun"),
        ("ssd", {"lr": 0.1}, "'lr' is not a setting of the method ssd"),
        ("retrain", {"mask": "saliency"}, "'mask' is not a setting of the method retrain"),
        ("none.toml", {}, "none.toml"),
    ],
)
def test_bad_input_is_one_sentence(name: str, given: dict[str, object], told: str) -> None:
    with pytest.raises(UserError, match=told):
        load_recipe(name, given)


def test_a_setting_of_a_mask_that_is_not_asked_for_is_refused() -> None:
    with pytest.raises(UserError, match="--ratio has no effect on salun, whose mask is 'none'"):
        load_recipe("salun", {"mask": "none", "ratio": 0.3})


def test_a_method_is_missing_or_misspelt() -> None:
    with pytest.raises(UserError, match="The recipe x names no method"):
        make_recipe("x", {})
    with pytest.raises(UserError, match="no classifier method 'salunn'. Did you mean 'salun'"):
        make_recipe("x", {"method": "salunn"})
