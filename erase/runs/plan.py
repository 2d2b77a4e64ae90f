"""What each stage of a run reads, hashed, and what a run records of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from erase.methods import edits, load_method
from erase.prompts.held_out import EVERYDAY_JUDGED, all_are_trained_on
from erase.recipes.recipe import as_dict, files_read, keys, own_settings
from erase.runs.evaluation import deciding
from erase.runs.folder import Plan
from erase.runs.run import ROLES, Run, listed
from erase.runtime import processes
from erase.runtime.files import digest
from erase.runtime.machine import versions


def make_plan(run: Run, model: Mapping[str, str]) -> Plan:
    """What every stage of the run reads, hashed.

    Args:
        run: the run.
        model: fingerprints of the base model's components.
    """
    asked = {
        side: digest([vars(r) | {"labels": dict(r.labels)} for r in rows])
        for side, rows in deciding(run).items()
    }
    return Plan(
        {
            **_erasing(run, model),
            "base": {
                "model": dict(model),
                **_read(run, "base"),
                "requests": [asked["base"], asked["base2"]],
            },
            "erased": {**_read(run, "erased"), "requests": asked["erased"]},
            "eval": {
                "concept": [target.concept.key() for target in run.targets],
                "anchor": [target.anchor.key() for target in run.targets],
                **run.instruments.identities(target.concept for target in run.targets),
            },
        }
    )


def _read(run: Run, stage: str) -> dict[str, Any]:
    """The settings that a stage reads; None for those that the method has no use for."""
    flat = as_dict(run.recipe)
    return {key: flat.get(key) for key in keys(stage)}


def _erasing(run: Run, model: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """By stage, what makes the erased model."""
    if not load_method(run.recipe.method).NEEDS.trains:
        given: dict[str, Any] = {"model": dict(model), **files_read(run.recipe)}
        strength = getattr(run.recipe.config, "strength", 1.0)
        if strength != 1:
            given["strength"] = strength
        if not edits(run.recipe.method):
            words = [target.concept.word for target in run.targets]
            given["guided"] = [run.recipe.method, own_settings(run.recipe), words]
        return dict.fromkeys(("images", "mask", "train"), given)
    roles, sources = run.roles(), run.sources
    unused = {f"{role}_images" for role in ROLES if role not in roles}
    folders = {
        f"{role}_folder": [[str(folder.resolve())], *map(list, listed(run, role))]
        for role in roles
        if (folder := sources.folder(role))
    }
    needs = load_method(run.recipe.method).NEEDS
    if any(sources.folder(role) is None for role in roles):
        sampled = set()
    else:  # the model makes none; what is trained on has a size all the same
        sampled = set(keys("base")) - {"size"}
    pairs = [list(pair) if needs.anchor else [pair[0]] for pair in run.pairs()]
    shared = {"model": dict(model), "seed": run.seed, "pairs": pairs}
    if len(run.targets) > 1:
        shared["concepts"] = len(run.targets)
    found = _found(run)
    summed = found if run.recipe.mask == "saliency" else {}
    return {
        "images": {
            **shared,
            "retain": run.retain_prompts(),
            **{k: v for k, v in _read(run, "images").items() if k not in unused | sampled},
            **folders,
        },
        "mask": {**shared, **_read(run, "mask"), **summed},
        "train": {
            **shared,
            "method": run.recipe.method,
            **({"words": list(run.words())} if found or _marked(run) else {}),
            **_read(run, "train"),
            **own_settings(run.recipe),
        },
    }


def _marked(run: Run) -> bool:
    """Whether a method looks for words that its prompts alone don't tell: those in brackets."""
    concepts = [target.concept for target in run.targets]
    marked = any(c.kind == "text" and c.word != c.name for c in concepts)
    return marked and load_method(run.recipe.method).NEEDS.word


def _found(run: Run) -> dict[str, Any]:
    """What decides further prompts that a method finds; {} where it finds none."""
    if not hasattr(load_method(run.recipe.method), "found"):
        return {}
    return {"method": run.recipe.method, "words": list(run.words()), **own_settings(run.recipe)}


def warnings(run: Run) -> list[str]:
    """What to mind when reading the run's figures, known before it starts."""
    few = any(all_are_trained_on(t.concept, run.sources.retain) for t in run.targets)
    return [EVERYDAY_JUDGED] if few else []


def describe(run: Run, model: Mapping[str, str], device: str) -> dict[str, Any]:
    """The facts of ``run.json`` besides the stages."""
    named = list(zip(*(target.named for target in run.targets), strict=True))
    concept, anchor = (list(own) if len(own) > 1 else own[0] for own in named)
    sources = {key: str(at) if at else None for key, at in vars(run.sources).items()}
    return {
        "model": {"source": run.model, "fingerprint": dict(model)},
        "concept": run.name,
        "anchor": " + ".join(target.anchor.name for target in run.targets),
        "kind": run.targets[0].concept.kind,
        "kinds": [target.concept.kind for target in run.targets],
        "seed": run.seed,
        "recipe": as_dict(run.recipe),
        "pairs": [list(p) for p in run.pairs()],
        "given": {"concept": concept, "anchor": anchor, **sources, **run.instruments.given()},
        "device": device,
        "own_images": {r: len(listed(run, r)) for r in run.roles() if run.sources.folder(r)},
        "warnings": warnings(run),
        "processes": processes.count(),
        "deterministic": run.compute.deterministic,
        "channels_last": run.compute.channels_last,
        "compiled": run.compute.compiled,
        "versions": versions(),
    }
