"""``erase tune``: equal budgets, trials inside the space, the choice, and a search end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erase.cli.main import main
from erase.diffusion.adversarial import Bank
from erase.diffusion.model import Diffusion
from erase.eval.instruments.bundled import mini_clip
from erase.methods import list_methods, load_method
from erase.recipes.recipe import (
    RECIPES,
    as_dict,
    flags,
    list_recipes,
    load_recipe,
    recipe_start,
    recipe_text,
)
from erase.runs.costs import forwards, image_forwards, mask_forwards, training_forwards
from erase.runtime.errors import UserError
from erase.study.tune import best, best_under_attack, trials, tuning_matrix
from tests.methods.data import fit_for, make_data
from tests.study.test_compare import small

RESULTS = Path(__file__).parents[2] / "benchmarks" / "tuning"
ROBUST = RESULTS.parent / "robust"
SEARCHED = [name for name in list_recipes() if recipe_start(name)]
NAMES = ["salun-mini", "esd-x-mini", "esd-u-mini", "fmn-mini", "ca-mini", "ga-mini", "uce-mini"]


class Counter:
    """Counts images that pass through a denoiser, three times where a gradient is wanted."""

    def __init__(self, *denoisers: torch.nn.Module) -> None:
        self.total = 0
        for denoiser in denoisers:
            denoiser.register_forward_pre_hook(self.count)

    def count(self, module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        self.total += len(args[0]) * (3 if torch.is_grad_enabled() else 1)


CASES = [
    ("salun", {}),
    ("salun", {"target": "frozen", "retain_target": "frozen"}),
    ("esd", {"x_t_steps": 1}),
    ("forget_me_not", {"inversion_steps": 0}),
    ("forget_me_not", {"inversion_steps": 3}),
    ("concept_ablation", {"target": "frozen"}),
    ("gradient_ascent", {}),
    ("adv_unlearn", {"x_t_steps": 1, "attack_steps": 2, "attack_from": 0.5}),
    ("adv_unlearn", {"x_t_steps": 1, "attack_steps": 2, "attack_x_t": "once", "attack_from": 0.0}),
    ("salun_robust", {"bank": 2}),
    ("salun_robust", {"bank": 2, "target": "moving"}),
    ("salun_robust", {"bank": 2, "bank_place": "before", "prefix_retain": 1.0, "relearn_lr": 1e-4}),
    ("salun_robust", {"bank": 2, "search_steps": 3, "search_erase": 2}),
    ("salun_robust", {"bank": 2, "relearn_lr": 1e-4}),
    ("uce", {}),
]


@pytest.mark.parametrize(("method", "settings"), CASES)
def test_forwards_are_those_that_happen(
    method: str,
    settings: dict[str, object],
    tiny: Diffusion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = load_method(method)
    data = make_data(tiny, "forget", "retain", "anchor")
    counter = Counter()
    predict, probs = Diffusion.predict, Diffusion.attention_probs

    def counted(self: Diffusion, x: torch.Tensor, t: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        counter.count(self.denoiser, (x,))
        return predict(self, x, t, c)

    def attended(
        self: Diffusion, x: torch.Tensor, t: torch.Tensor, c: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        before = counter.total
        found = probs(self, x, t, c)
        counter.total = before
        counter.count(self.denoiser, (x,))
        return found

    monkeypatch.setattr(Diffusion, "predict", counted)
    monkeypatch.setattr(Diffusion, "attention_probs", attended)
    push = Bank.push

    def pushed(self: Bank, value: torch.Tensor) -> None:
        push(self, value)
        counter.total += data.batch_size  # a backward pass of its own for half of the rows

    monkeypatch.setattr(Bank, "push", pushed)
    config = module.Config(**settings)
    fit, _ = fit_for(tiny, module, "xattn-kv", tmp_path, steps=4)
    module.erase(tiny, data, config, fit)
    assert counter.total == module.forwards(config, 4, data.batch_size)


def test_what_salun_robust_is_held_against() -> None:
    """Each of its variants loads and is told apart; SalUn's control costs as much."""
    robust = load_recipe("salun-robust-mini")
    found = {f.stem: load_recipe(str(f)) for f in sorted(ROBUST.glob("*.toml"))}
    equal = found.pop("salun-equal")
    assert len(found) >= 8 and all(r.method == "salun_robust" for r in found.values())
    assert all(r.config != robust.config for r in found.values())
    assert equal.method == "salun"
    costs = [training_forwards(r, r.steps) + mask_forwards(r) for r in (equal, robust)]
    assert costs[0] == pytest.approx(costs[1], rel=0.005)


def test_what_is_off_is_not_varied() -> None:
    """A factor on a rate of 0, and what has no effect beside it."""
    recipe = load_recipe("salun-robust")
    found = [as_dict(trial) for trial in trials(recipe, 3, 200_000)]
    assert len({one["alpha"] for one in found}) > 1
    for key in ("relearn_lr", "relearn_restart"):
        assert {one[key] for one in found} == {as_dict(recipe)[key]}


def test_esd_forwards_on_average(tiny: Diffusion) -> None:
    from erase.methods import esd

    # Steps done are uniform in 0 ... 4: two of them on average, each with two branches.
    assert esd.forwards(esd.Config(x_t_steps=5), 10, 3) == 10 * 3 * (3 + 3 + 2 * 2)
    assert esd.forwards(esd.Config(x_t_steps=5, x_t_guidance=1.0), 10, 3) == 10 * 3 * (6 + 2)


def test_forwards_of_the_images_by_hand() -> None:
    # SalUn's 200 + 400 images, Concept Ablation's 200, each in 15 steps of two branches.
    assert image_forwards(load_recipe("salun-mini")) == 600 * 15 * 2
    assert image_forwards(load_recipe("ca-mini")) == 200 * 15 * 2
    assert image_forwards(load_recipe("ca-mini", {"guidance_scale": 1.0})) == 200 * 15
    assert image_forwards(load_recipe("ga-mini", {"alpha": 0.0})) == 200 * 15 * 2
    assert image_forwards(load_recipe("esd-x-mini")) == image_forwards(load_recipe("uce-mini")) == 0


@pytest.mark.parametrize("method", list_methods())
def test_a_space_is_of_the_methods_own_settings(method: str) -> None:
    space, known = load_method(method).SPACE, {flag.name for flag in flags(method)}
    assert space.keys() <= known
    # A negative prompt has nothing to vary.
    assert bool(space) is (method != "negative_prompt")


@given(
    name=st.sampled_from(NAMES),
    count=st.integers(1, 9),
    budget=st.floats(21_000, 60_000),
    seed=st.integers(0, 2**31),
)
def test_trials_keep_to_the_space_and_the_budget(
    name: str, count: int, budget: float, seed: int
) -> None:
    recipe = load_recipe(name)
    start = recipe_start(name)
    found = trials(recipe, count, budget, seed=seed, start=start)
    assert [r.name for r in found] == [f"{name}-{i + 1}" for i in range(count)]
    space = load_method(recipe.method).SPACE
    # Images are made once for all trials.
    share = max(map(image_forwards, found)) / count
    for trial in found:
        assert forwards(trial) + share <= budget
        assert trial == trials(recipe, count, budget, seed=seed, start=start)[found.index(trial)]
        before, after = as_dict(recipe), as_dict(trial)
        for key in before:
            if key not in space and key != "name":
                assert after[key] == before[key]
        before |= start
        for key, spread in space.items():
            if isinstance(spread, list):
                assert after[key] in spread
            elif key != "steps":
                # Two significant digits: within five percent of the range.
                assert 0.95 * spread[0] <= after[key] / before[key] <= 1.05 * spread[1]


@pytest.mark.parametrize("name", SEARCHED)
def test_what_was_chosen_is_the_marked_trial_of_the_search(name: str) -> None:
    recipe = as_dict(load_recipe(name))
    text = (RECIPES / f"{name}.toml").read_text()
    typed = "salun-mini" if name == "salun-searched-mini" else name.removesuffix("-mini")
    assert f"erase tune --recipe {typed} " in text
    table = (RESULTS / f"{typed}.md").read_text().splitlines()
    heads, *rows = [
        [c.strip() for c in line.split("|")[1:-1]] for line in table if "---" not in line
    ]
    assert len(rows) == 6
    [chosen] = [dict(zip(heads, row, strict=True)) for row in rows if "←" in row[0]]
    keys = load_method(str(recipe["method"])).SPACE
    assert {key: str(recipe[key]) for key in keys} == {key: chosen[key] for key in keys}


def test_a_fixed_setting_is_not_varied() -> None:
    recipe = load_recipe("esd-x-mini", {"lr": 5e-4, "eta": 7.0})
    found = trials(recipe, 4, 12_000, fixed={"lr", "eta"})
    assert {(r.lr, r.config.eta) for r in found} == {(5e-4, 7.0)}
    assert len({r.steps for r in found}) > 1
    with pytest.raises(UserError, match="left to vary"):
        trials(recipe, 4, 12_000, fixed={"lr", "eta", "steps"})
    with pytest.raises(UserError, match="at least"):
        trials(recipe, 4, 10)
    # Of 600 images in 15 guided steps, 18,000 forwards, each of four trials carries 4,500.
    with pytest.raises(UserError, match=r"a trial's share of the images: give at least 5764\."):
        trials(load_recipe("salun-mini"), 4, 4500)
    with pytest.raises(UserError, match="fewer --steps"):
        trials(load_recipe("esd-x-mini", {"steps": 10_000}), 4, 12_000, fixed={"steps"})


def test_no_tables_image_decides_a_setting(tmp_path: Path) -> None:
    from erase.runs.evaluation import requests
    from erase.runs.make import make_run
    from erase.study.tune import tuning_matrix

    _, matrix = tuning_matrix("uce", "mini", tmp_path, count=1, budget=12_000)
    tuned = [r.seed for cell in matrix.cells for rows in requests(cell.run).values() for r in rows]
    shown = [r.seed for rows in requests(make_run("mini", "church")).values() for r in rows]
    assert tuned and shown and not set(tuned) & set(shown)


def test_what_some_trials_use_may_be_given(tmp_path: Path) -> None:
    from erase.study.tune import tuning_matrix

    recipe, matrix = tuning_matrix(
        "ga", "mini", tmp_path, count=4, budget=12_000, overrides={"retain_images": 50}
    )
    assert recipe.retain_images == 50
    assert {r.config.alpha for r in matrix.recipes} == {0.0, 1.0}
    assert max(forwards(r) for r in matrix.recipes) <= 12_000
    with pytest.raises(UserError, match="--retain-images has no effect"):
        given = {"retain_images": 50, "alpha": 0.0}
        tuning_matrix("ga", "mini", tmp_path, count=4, budget=12_000, overrides=given)


def test_without_a_judge_nothing_is_searched(tmp_path: Path) -> None:
    from erase.study.tune import tuning_matrix

    with pytest.raises(UserError, match="recognises 'a photo of a cat': add --judge"):
        tuning_matrix(
            "uce", "some/model", tmp_path, count=1, budget=1, concepts=["a photo of a cat"]
        )


def test_the_best_trial() -> None:
    def score(harmonic: float | None, fid: float | None) -> dict[str, float | None]:
        return {"harmonic": harmonic, "fid": fid}

    assert best([score(0.8, 1.0), score(0.95, 3.0), score(0.9, 0.1)]) == 1
    assert best([score(0.955, 1.0), score(0.96, 3.0), score(0.9, 0.1)]) == 0
    assert best([score(0.955, None), score(0.96, None)]) == 1
    assert best([score(0.0, 9.0), score(0.0, 2.0)]) == 1


def test_the_best_trial_under_attack() -> None:
    def score(
        recovery: float | None, ira: float, cra: float | None = 0.9, harmonic: float = 0.9
    ) -> dict[str, Any]:
        return {
            "recovery": recovery,
            "ira": ira,
            "cra": cra,
            "harmonic": harmonic,
            "fid": 2 - harmonic,
        }

    base = {"ira": 0.99, "cra": 0.9}
    assert best_under_attack([score(0.4, 0.99), score(0.2, 0.985), score(0.1, 0.95)], base) == 1
    # Where none keeps so much, those that keep most.
    assert best_under_attack([score(0.1, 0.5), score(0.9, 0.8), score(0.8, 0.8)], base) == 2
    assert best_under_attack([score(0.3, 0.99, None), score(0.5, 1.0)], base) == 0
    # One image of 20 more or less, or fewer than the floor, is chance: what is erased decides.
    assert best_under_attack([score(0.0, 1.0, harmonic=0.6), score(0.0, 1.0)], base) == 1
    assert best_under_attack([score(-0.2, 1.0, harmonic=0.6), score(0.05, 1.0)], base) == 1
    # On the bound is within it, whatever floats make of 1 - 198/200 and of one image of 20.
    whole = {"ira": 1.0, "cra": 1.0}
    assert best_under_attack([score(0.6, 1.0), score(0.05, 198 / 200)], whole) == 1
    close = [score(8 / 20, 1.0), score(7 / 20, 1.0, harmonic=0.6)]
    assert best_under_attack(close, whole) == 0
    with pytest.raises(UserError, match="no recovery on these concepts"):
        best_under_attack([score(None, 0.9)], base)


def test_a_search_end_to_end(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tune"
    captions = tmp_path / "retain.csv"
    captions.write_text("case_number,prompt,evaluation_seed\n0,a dog,1\n1,a tree,1000\n")
    args = ["tune", "--recipe", "uce", "--model", str(tiny_folder), "--out", str(out)]
    args += ["--concepts", "imagenette/church", "--trials", "2", "--retain", str(captions)]
    args += ["--judge", mini_clip()]
    values = {k: v for k, v in small(["uce"]).items() if not k.startswith("eval_")}
    for key, value in {**values, "eval_forget": 2, "eval_retain": 2}.items():
        args += [f"--{key.replace('_', '-')}", str(value)]
    main(args)
    text = capsys.readouterr().out
    assert "| uce-1" in text and "| uce-2" in text and text.count("←") == 1
    chosen = load_recipe(str(out / "uce.toml"))
    found = json.loads((out / "tune.json").read_text())
    assert found["chosen"] == as_dict(chosen) and len(found["trials"]) == 2
    assert chosen.sampling_steps == 2
    # Fewer images judged the trials; that is no setting of the method.
    assert chosen.eval_forget == load_recipe("uce").eval_forget
    assert [t["settings"]["eval_general"] for t in found["trials"]] == [0, 0]


def test_ones_own_recipe_is_searched_around_its_own_values(tmp_path: Path) -> None:
    own = load_recipe("esd-x-mini", {"lr": 0.5})
    (tmp_path / "esd-x-mini.toml").write_text(recipe_text(own, "mine"))

    def rates(name: str) -> list[float]:
        made = tuning_matrix(name, "mini", tmp_path / "t", count=4, budget=12_000)[1]
        return [recipe.lr for recipe in made.recipes]

    theirs, ours = rates("esd-x-mini"), rates(str(tmp_path / "esd-x-mini.toml"))
    assert all(0.05 <= lr <= 5 for lr in ours)
    for a, b in zip(theirs, ours, strict=True):
        assert b / a == pytest.approx(0.5 / recipe_start("esd-x-mini")["lr"], rel=0.1)


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(["tune", *args])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_bad_input_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No recipe was given" in refused(capsys)
    assert "Did you mean 'fmn'" in refused(capsys, "--recipe", "fmm")
    assert "less than 1" in refused(capsys, "--recipe", "uce", "--trials", "0")
    assert "No concepts" in refused(capsys, "--recipe", "uce", "--model", "some/hub-id")
    assert "Results are reported on" in refused(capsys, "--recipe", "uce", "--concepts", "church")
    assert "Results are reported on" in refused(capsys, "--recipe", "uce", "--concepts", "all")
    assert "is too few" in refused(capsys, "--recipe", "esd-x", "--forwards", "5")
