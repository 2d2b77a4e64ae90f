"""``--dry-run``: the stages, the recipe, counts and time, without doing anything."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from erase.classifiers.methods import load_method
from erase.recipes.classifier import as_dict
from erase.runs.classifiers.execute import open_workshop
from erase.runs.classifiers.graph import STAGES
from erase.runs.classifiers.run import ClassifierRun, make_plan
from erase.runs.estimate import duration
from erase.runs.folder import RunFolder, check_stages

if TYPE_CHECKING:
    from erase.runs.classifiers.stages import Workshop

TRIED = 5
"""Steps that a network is timed with, the first apart."""


def describe(
    run: ClassifierRun,
    stages: Sequence[str] = tuple(STAGES.commands),
    overwrite: bool = False,
) -> str:
    """What the run would do, as text, after the checks of a run.

    Raises:
        UserError: what a run would raise before its first step.
    """
    check_stages(stages, STAGES)
    wanted = [stage for stage in STAGES.outputs if stage in stages]
    shop = open_workshop(run)
    folder = RunFolder.open(run.out, STAGES)
    stale = folder.changed(make_plan(run), wanted, overwrite)
    split, weights = (
        run.split,
        sum(p.numel() for p in shop.network(run.model, 0).network.parameters()),
    )
    lines = [
        f"model     {run.model} ({weights / 1e6:.2f} M weights)",
        f"data      {run.data.spec}, {len(run.data.classes)} classes: {len(split.train):,} to "
        f"train on, {len(split.validation):,} for validation, {len(split.test):,} to test, "
        f"{len(split.attack):,} for membership attacks",
        f"forget    {split.spec}: {len(split.forget):,}, retain {len(split.retain):,}",
        f"run       {run.out}",
    ]
    done = [stage for stage in STAGES.outputs if stage not in stale and folder.finished(stage)]
    if done:
        lines.append(f"          finished there: {', '.join(done)}")
    if stale:
        lines.append(f"          discarded, since inputs changed: {', '.join(stale)}")
    counts = _samples(run)
    rate = _rate(shop)
    for stage in wanted:
        told = _told(run)[stage]
        took = "" if stage in done else f", about {duration(counts[stage] * rate)}"
        lines.append(f"stage     {stage:8s} {told}{took}")
    lines += [f"recipe    {key} = {value}" for key, value in as_dict(run.recipe).items()]
    lines += [f"training  {key} = {value}" for key, value in asdict(run.training).items()]
    left = sum(counts[stage] for stage in wanted if stage not in done) * rate
    return "\n".join([*lines, f"time      about {duration(left)}, by a short measurement"])


def _told(run: ClassifierRun) -> dict[str, str]:
    """What each stage does."""
    file = run.weights
    return {
        "train": f"taken from {file}" if file else f"the base, {run.training.epochs:g} epochs",
        "mask": f"{run.recipe.mask} mask"
        + (f", ratio {run.recipe.ratio:g}" if run.recipe.mask != "none" else ""),
        "unlearn": f"{run.recipe.method}, {run.recipe.epochs:g} epochs"
        if load_method(run.recipe.method).NEEDS.loop
        else f"{run.recipe.method}, in closed form",
        "retrain": f"{run.retrains} models without what is forgotten, the yardstick",
        "eval": "report.json, .html, .md, .csv; relearning is not in its time",
    }


def _samples(run: ClassifierRun) -> dict[str, float]:
    """Samples that a stage takes forward and backward, see ``methods.Method.samples``."""
    method, split, recipe = load_method(run.recipe.method), run.split, run.recipe
    each = method.samples(recipe.config, len(split.forget), len(split.retain))
    looked = len(split.train) + sum(
        map(len, (split.validation, split.test, split.attack, split.forgotten))
    )
    training = 3.0 * run.training.epochs
    anew = getattr(recipe.config, "share", 1.0) if method.NEEDS.retrains else 0.0
    return {
        "train": 0.0 if run.weights else training * len(split.train),
        "mask": 3.0 * len(split.forget) if recipe.mask == "saliency" else 0.0,
        "unlearn": (recipe.epochs if method.NEEDS.loop else 1.0) * each
        + anew * training * len(split.retain),
        "retrain": run.retrains * training * len(split.retain),
        "eval": float((2 + run.retrains) * looked),
    }


def _rate(shop: Workshop) -> float:
    """Seconds of a sample forward, by a few steps of training."""
    import torch

    run = shop.run
    classifier = shop.network(run.model, 0)
    batch = run.training.batch
    pool = shop.pool(run.split.train, (0, "trial"), batch, "none")
    began = time.perf_counter()
    for index in range(TRIED):
        if index == 1:
            began = time.perf_counter()
        found = pool.at(index)
        loss = torch.nn.functional.cross_entropy(classifier.logits(found.x), found.y)
        loss.backward()
    return (time.perf_counter() - began) / (TRIED - 1) / batch / 3
