"""A run, checked: which model forgets which samples of what data, how, and in which folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import ceil
from pathlib import Path
from typing import Any, Literal

from erase.classifiers.data import load_data
from erase.classifiers.methods import load_method
from erase.classifiers.models import parse_model, source_of
from erase.classifiers.samples import Data
from erase.classifiers.split import ATTACK, VALIDATION, Split, load_split, make_split
from erase.classifiers.training import Training
from erase.recipes.classifier import ClassifierRecipe, as_dict, keys
from erase.recipes.settings import flags_of
from erase.runs.classifiers.graph import RETRAINS, STAGES
from erase.runs.folder import Plan
from erase.runtime.errors import UserError
from erase.runtime.files import digest, sha256
from erase.runtime.notes import note
from erase.runtime.seeding import checked_seed


@dataclass(frozen=True, eq=False)
class ClassifierRun:
    """What is to be done.

    Attributes:
        model: spec of the network, see ``classifiers.models``.
        data: the samples.
        split: which of them are forgotten.
        recipe: the method with its settings.
        training: of the base and of retraining alike.
        retrains: models that never saw what is forgotten, >= 0; seeds 0, 1, …
        seed: of every draw.
        out: run folder.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        deterministic: the same bits on every run of a GPU.
        shared: folder where runs find each other's base and retrained models; None for none.
        judged: samples that stand for the test's in every figure; a search takes validation.
    """

    model: str
    data: Data
    split: Split
    recipe: ClassifierRecipe
    training: Training
    retrains: int = RETRAINS
    seed: int = 0
    out: Path = Path("runs/classifier")
    device: str = "auto"
    deterministic: bool = False
    shared: Path | None = None
    judged: Literal["test", "validation"] = "test"

    @property
    def weights(self) -> Path | None:
        """The base's weights where they are given, so that it is not trained."""
        return parse_model(self.model)[2]

    @property
    def architecture(self) -> str:
        """The model's spec without its weights."""
        return self.model.partition("@")[0]


@dataclass(frozen=True)
class Draw:
    """How samples are drawn, where no split is given.

    Attributes:
        train: samples to train on; None for all that are not held out.
        validation, attack: see ``split.make_split``.
        file: a ``split.json`` instead.
    """

    train: int | None = None
    validation: float = VALIDATION
    attack: float = ATTACK
    file: Path | None = None


def make_run(
    model: str,
    data: str,
    forget: str | None,
    recipe: ClassifierRecipe,
    *,
    draw: Draw | None = None,
    training: Mapping[str, Any] | None = None,
    **more: Any,
) -> ClassifierRun:
    """Reads the data and draws the split.

    Args:
        model: spec of the network.
        data: spec of the data.
        forget: what is forgotten, see ``split.make_split``; None with ``draw.file``.
        recipe: the method with its settings.
        draw: how samples are drawn.
        training: settings of training that differ from those usual for the data.
        more: further fields of the run.

    Raises:
        UserError: bad input.
    """
    parse_model(model)
    draw = draw or Draw()
    check_shares(draw)
    found = load_data(data)
    seed = checked_seed(int(more.get("seed", 0)))
    if draw.file is not None:
        if replace(draw, file=None) != Draw():
            raise UserError(
                "--split says which samples are trained on and held out: leave out "
                "--train-samples, --validation and --attack."
            )
        split = load_split(draw.file, found)
        if forget not in (None, split.spec):
            raise UserError(
                f"{draw.file} forgets {split.spec}, not {forget}: leave out --forget or --split."
            )
    elif forget is None:
        raise UserError(
            "What to forget is not said: give --forget random:0.1, class:NAME, cell:NAME/NAME, "
            "indices:FILE or flipped:0.1."
        )
    else:
        split = make_split(
            found,
            forget,
            seed,
            train=draw.train,
            validation=draw.validation,
            attack=draw.attack,
        )
    run = ClassifierRun(
        model, found, split, recipe, make_training(found.training, training or {}), **more
    )
    if run.weights is not None and draw.file is None:
        note(f"{foreign(run.weights)}: give the --split that it was trained with, if there is one.")
    if run.retrains < 0:
        raise UserError("--retrains is negative: give 0 or more.")
    check_counts(run)
    return run


def check_counts(run: ClassifierRun) -> None:
    """Refuses what a method can't forget, counted in whole batches.

    Raises:
        UserError: see the method.
    """
    size = run.recipe.batch_size
    whole = [size * ceil(len(part) / size) for part in (run.split.forget, run.split.retain)]
    load_method(run.recipe.method).samples(run.recipe.config, *whole)


def foreign(weights: Path) -> str:
    """What is not known of a base that somebody else trained, without its full stop."""
    return (
        f"{weights} may have been trained on other samples than the split says, held-out ones "
        "among them, and in another way than the retrained models"
    )


def check_shares(draw: Draw) -> None:
    """Refuses shares out of range.

    Raises:
        UserError: naming the flag.
    """
    for flag in ("validation", "attack"):
        value = getattr(draw, flag)
        if not 0 <= value < 1:
            raise UserError(f"--{flag} is {value:g}: give a share from 0 to below 1.")


def make_training(usual: Training, given: Mapping[str, Any]) -> Training:
    """The usual training with some values changed.

    Raises:
        UserError: a value out of range.
    """
    checks = {flag.name: flag for flag in flags_of(Training)}
    changed: dict[str, Any] = {k: checks[k].checked(value) for k, value in given.items()}
    return replace(usual, **changed)


def make_plan(run: ClassifierRun) -> Plan:
    """What every stage reads, hashed."""
    split, flat = run.split, as_dict(run.recipe)
    base = base_key(run)
    return Plan(
        {
            "train": {
                **base,
                "forget": digest([split.forget, split.test, split.attack, split.forgotten]),
            },
            "mask": {"seed": run.seed, **{k: flat[k] for k in keys(run.recipe.method, "mask")}},
            "unlearn": {
                "seed": run.seed,
                "method": run.recipe.method,
                **{k: flat[k] for k in keys(run.recipe.method, "unlearn")},
            },
            "retrain": {"retrains": run.retrains},
            "eval": {} if run.judged == "test" else {"judged": run.judged},
        },
        STAGES,
    )


def base_key(run: ClassifierRun) -> dict[str, Any]:
    """What the base's weights depend on; whatever else is forgotten, it is the same base."""
    file, code = run.weights, source_of(run.model)
    return {
        "model": run.architecture,
        **({"code": sha256(code)} if code else {}),
        "weights": sha256(file) if file else None,
        "data": run.split.data,
        "samples": digest([run.split.train, sorted(run.split.flips.items())]),
        "training": asdict(run.training),
        "seed": run.seed,
    }


def retrain_key(run: ClassifierRun, number: int) -> dict[str, Any]:
    """What the weights of a retrained model depend on; not on the base, nor on its seed."""
    return {
        **base_key(run),
        "weights": None,
        "samples": digest([run.split.retain, sorted(run.split.flips.items())]),
        "seed": number,
        "retrained": True,
    }


def default_out(model: str, data: str, forget: str, recipe: str, seed: int) -> Path:
    """Where a run goes that says nothing else: ``runs/MODEL-DATA-FORGET-RECIPE-SEED``."""
    parts = (model.partition("@")[0], data.partition("@")[0], forget, recipe)
    plain = "-".join("".join(c if c.isalnum() or c in ".-" else "-" for c in p) for p in parts)
    return Path("runs") / f"{plain}-{seed}"


TRAINING = tuple(f.name for f in fields(Training))
"""The settings of training."""
