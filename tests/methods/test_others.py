"""Gradient ascent and Concept Ablation against their equations, and what every method shares."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from erase.diffusion.data import Noised, TrainingData
from erase.diffusion.model import Diffusion
from erase.formats.layouts import PARTS
from erase.methods import concept_ablation, edits, gradient_ascent, list_methods, load_method
from erase.recipes.recipe import flags, list_recipes, load_recipe
from erase.runs.make import make_run
from erase.unlearn.parts import WHOLE
from tests.methods.data import (
    copied,
    fit_for,
    losses,
    make_data,
    make_fit,
    moved,
    weights,
)

QUICK = {"esd": {"x_t_steps": 3}, "adv_unlearn": {"x_t_steps": 3, "attack_steps": 2}}


def quick(method: str) -> Any:
    """The method's defaults, in less time."""
    return load_method(method).Config(**QUICK.get(method, {}))


def test_gradient_ascent_by_hand(tiny: Diffusion, tmp_path: Path) -> None:
    """-MSE(ε, ε_θ(x_t|c)) + α·MSE(ε, ε_θ(x_t^r|c^r)), as the first step logs it."""
    start = copied(tiny)

    @torch.no_grad()
    def error(b: Noised) -> float:
        predicted = start.denoiser(b.x_t, b.t, b.c.hidden).sample
        return float((predicted - b.target).pow(2).mean())

    def logged(data: TrainingData, alpha: float) -> dict[str, float]:
        folder = tmp_path / str(alpha)
        config = gradient_ascent.Config(alpha=alpha)
        gradient_ascent.erase(copied(tiny), data, config, make_fit(tiny, "full", folder, steps=1))
        row: dict[str, float] = json.loads((folder / "train.jsonl").read_text())
        return row

    data = make_data(tiny, "forget", "retain")
    forget, retain = (error(b) for b in data.batch(0))
    row = logged(data, 0.25)
    assert row["forget"] == pytest.approx(-forget, rel=1e-4)
    assert row["retain"] == pytest.approx(0.25 * retain, rel=1e-4)
    assert row["loss"] == pytest.approx(-forget + 0.25 * retain, rel=1e-4)
    alone = logged(make_data(tiny, "forget"), 0.0)
    assert alone["loss"] == pytest.approx(-error(data.draw("forget", 0)), rel=1e-4)


def test_gradient_ascent_makes_no_images_for_a_term_that_weighs_nothing() -> None:
    names = {"alpha": 0.5}, {"alpha": 0.0}
    runs = [make_run("mini", "church", recipe="ga", overrides=o) for o in names]
    assert [run.roles() for run in runs] == [("forget", "retain"), ("forget",)]
    costs = [gradient_ascent.forwards(run.recipe.config, 10, 4) for run in runs]
    assert costs == [240, 120]


def test_gradient_ascent_raises_the_loss(tiny_v: Diffusion, tmp_path: Path) -> None:
    data = make_data(tiny_v, "forget")
    config = gradient_ascent.Config()
    gradient_ascent.erase(tiny_v, data, config, make_fit(tiny_v, "full", tmp_path, steps=15))
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert sum(r["loss"] for r in rows[-5:]) < sum(r["loss"] for r in rows[:5])


@pytest.mark.parametrize("target", ["moving", "frozen"])
def test_concept_ablation_by_hand(tiny: Diffusion, target: str, tmp_path: Path) -> None:
    """The second step tells the targets apart: before the first, both models are the base."""
    data = make_data(tiny, "anchor")
    config = concept_ablation.Config(target=target)  # type: ignore[arg-type]
    stepped, trained = copied(tiny), copied(tiny)
    for model, steps in ((stepped, 1), (trained, 2)):
        place = tmp_path / str(steps)
        concept_ablation.erase(
            model, data, config, make_fit(model, "xattn-kv", place, steps=steps, lr=0.05)
        )

    def by_hand(index: int, model: Diffusion, anchor_model: Diffusion) -> float:
        b = data.draw("anchor", index)
        c, anchor_c = (e[b.prompt].hidden for e in (data.c, data.anchor_c))
        with torch.no_grad():
            wanted = anchor_model.denoiser(b.x_t, b.t, anchor_c).sample
            difference = model.denoiser(b.x_t, b.t, c).sample - wanted
        return float(difference.square().mean())

    first, second = losses(tmp_path / "2")
    assert first == pytest.approx(by_hand(0, tiny, tiny), rel=1e-4)
    right, wrong = (tiny, stepped) if target == "frozen" else (stepped, tiny)
    assert second == pytest.approx(by_hand(1, stepped, right), rel=1e-3)
    assert second != pytest.approx(by_hand(1, stepped, wrong), rel=1e-2)


@pytest.mark.parametrize("method", filter(edits, list_methods()))
@pytest.mark.parametrize("model", ["tiny", "tiny_v"])
def test_every_method_moves_what_its_mask_lets_it(
    method: str, model: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    d: Diffusion = request.getfixturevalue(model)
    module = load_method(method)
    data = make_data(d, *module.NEEDS.images, batch_size=1)
    fit, part = fit_for(d, module, "xattn-kv", tmp_path)
    before = {p: weights(d, p) for p in PARTS}
    module.erase(d, data, quick(method), fit)
    scope = d.scoped("xattn-kv" if part == "denoiser" else str(module.NEEDS.scope), part)
    changed = {p: moved(before[p], d, p) for p in PARTS}
    assert changed[part] and changed[part] <= scope.keys() < before[part].keys()
    assert not any(found for p, found in changed.items() if p != part)
    assert (tmp_path / "train.jsonl").exists()


@pytest.fixture
def bf16() -> Iterator[Accelerator]:
    """A CPU in bf16; the precision is accelerate's global state."""
    AcceleratorState._reset_state(reset_partial_state=False)
    yield Accelerator(cpu=True, mixed_precision="bf16")
    AcceleratorState._reset_state(reset_partial_state=False)


@pytest.mark.parametrize("method", [m for m in list_methods() if load_method(m).NEEDS.loop])
def test_bf16_reaches_what_one_backward_in_fp32_reaches(
    method: str, tiny: Diffusion, tmp_path: Path, bf16: Accelerator
) -> None:
    """Autocast's cache of weights loses the graph of those that were first cast without one."""
    module, other = load_method(method), copied(tiny)
    data = make_data(tiny, *module.NEEDS.images, batch_size=1)
    fit, part = fit_for(tiny, module, "full", tmp_path, steps=1)

    class Plainly:
        settings = fit.settings

        def __call__(self, moving: torch.nn.Module, step: Any, *beside: Any) -> None:
            for parameter in other.scoped(scope, part).values():
                parameter.requires_grad_(True)
            step(0, WHOLE)["loss"].backward()

    scope = "full" if part == "denoiser" else str(module.NEEDS.scope)
    module.erase(other, data, quick(method), Plainly())  # type: ignore[arg-type]
    reached = {
        n
        for n, p in other.part(part).named_parameters()
        if p.grad is not None and bool(p.grad.any())
    }
    cached: list[bool] = []
    hook = tiny.denoiser.register_forward_pre_hook(
        lambda *_: cached.append(torch.is_autocast_cache_enabled())
    )
    before = weights(tiny, part)
    module.erase(tiny, data, quick(method), replace(fit, accelerator=bf16))
    hook.remove()
    assert moved(before, tiny, part) == reached and len(reached) > (
        100 if part == "denoiser" else 20
    )
    assert cached and not any(cached)


def test_settings_without_effect_are_not_offered() -> None:
    offered = {method: {flag.name for flag in flags(method)} for method in list_methods()}
    assert "steps" not in offered["uce"] and "ratio" not in offered["uce"]
    assert "retain_images" not in offered["esd"] and "anchor_images" not in offered["salun"]
    assert {"forget_images", "retain_empty"} <= offered["salun"]


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_loads_for_its_method(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.method in list_methods() and recipe.name == name
