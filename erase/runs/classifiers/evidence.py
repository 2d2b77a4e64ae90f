"""The evidence of a run: what its models say of every sample, handed to the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from erase.classifiers.batches import Pool
from erase.classifiers.looking import predictions
from erase.eval.classifiers import gap
from erase.eval.classifiers.evidence import Case, Part, Side, softmax
from erase.eval.classifiers.report.evaluate import evaluate, write
from erase.eval.classifiers.report.schema import Facts
from erase.formats.tensors import read_metadata
from erase.recipes.classifier import as_dict
from erase.runs.classifiers.measured import Shelf
from erase.runs.classifiers.run import ClassifierRun
from erase.runs.classifiers.stages import WEIGHTS
from erase.runtime.files import digest

if TYPE_CHECKING:
    from torch import Tensor

    from erase.runs.classifiers.stages import Workshop
    from erase.runs.folder import RunFolder

BATCH = 256
"""Samples that are looked at together."""
NEIGHBOURS = 3
"""Classes next to a forgotten one."""


def prove(shop: Workshop, folder: RunFolder) -> None:
    """Measures base, unlearned and retrained models, and writes the report.

    Args:
        shop: the run.
        folder: with the records of the stages before.
    """
    run = shop.run
    pools = _pools(shop)
    # A search is scored by the gap alone.
    keys = gap.FOUR if run.judged == "validation" else ()
    bases = {"base": run.out / "base" / WEIGHTS}
    others = {f"retrain-{n}": run.out / "retrain" / str(n) / WEIGHTS for n in range(run.retrains)}
    made_of = {name: read_metadata(file)["made_of"] for name, file in {**bases, **others}.items()}
    asked = digest([run.split.digest(), run.judged, run.data.spec.partition("@")[0]])
    shelf = Shelf(run.shared, asked, made_of)

    def side(name: str, file: Path, *stages: str) -> Side:
        def answer() -> dict[str, Tensor]:
            classifier = shop.opened(file)
            return {part: predictions(classifier, pool) for part, pool in pools.items()}

        answers = shelf.answers(name, answer)
        # What others trained, nobody has counted.
        known = name != "base" or run.weights is None
        records = [folder.stages[stage] for stage in stages]
        return Side(
            name,
            {part: answers[part].numpy() for part in pools},
            partial(shop.opened, file),
            samples=sum(r.get("samples", 0.0) for r in records) if known else None,
            seconds=sum(r.get("trained", r["seconds"]) for r in records) if known else None,
        )

    base = side("base", bases["base"], "train")
    unlearned = side("unlearned", run.out / WEIGHTS, "mask", "unlearn")
    retrained = [side(name, file, "retrain") for name, file in others.items()]
    case = Case(
        kind=run.split.kind,
        classes=run.data.classes,
        labels={part: pool.labels.numpy() for part, pool in pools.items()},
        forgotten=run.data.classes.index(run.split.spec.partition(":")[2])
        if run.split.kind == "class"
        else None,
        # The split's: what is drawn of the samples is the same for every base.
        seed=run.split.seed,
        pools=pools,
        near=nearest_samples(run, retrained),
    )
    measured = partial(shelf.figures, keys=keys)
    write(evaluate(case, base, unlearned, retrained, _facts(run, folder), measured), run.out)


def nearest_samples(run: ClassifierRun, retrained: Sequence[Side]) -> dict[str, NDArray[np.int64]]:
    """The test samples nearest to what is forgotten, see ``metrics.neighbours``."""
    kind, _, what = run.split.spec.partition(":")
    if run.judged != "test":
        return {}
    test = np.array(run.split.test)
    if kind == "cell":
        (_, one), (_, other) = list(run.data.axes.items())[:2]
        parts = what.split("/")
        first, second = parts if parts[0] in one.names else parts[::-1]
        same = one.test.numpy()[test] == one.names.index(first)
        alike = other.test.numpy()[test] == other.names.index(second)
        found = {
            f"{first}, not {second}": np.flatnonzero(same & ~alike),
            f"{second}, not {first}": np.flatnonzero(alike & ~same),
        }
    elif kind == "class" and retrained:
        gone = run.data.classes.index(what)
        answers = np.mean([softmax(side.logits["forget"]).mean(0) for side in retrained], 0)
        nearest = [k for k in np.argsort(-answers, kind="stable").tolist() if k != gone]
        labels = run.data.test.labels.numpy()[test]
        found = {run.data.classes[k]: np.flatnonzero(labels == k) for k in nearest[:NEIGHBOURS]}
    else:
        return {}
    return {name: places for name, places in found.items() if len(places)}


def _facts(run: ClassifierRun, folder: RunFolder) -> Facts:
    """How the models came to be."""
    told = folder.facts
    made = folder.stages.get("unlearn", {}).get("made") or told
    records = {name: record for name, record in folder.stages.items() if record.get("finished")}
    return Facts(
        run={
            "model": run.model,
            "data": run.data.spec,
            "forget": run.split.spec,
            "recipe": run.recipe.name,
            "method": run.recipe.method,
            "seed": run.seed,
        },
        recipe=as_dict(run.recipe),
        split={"seed": run.split.seed, "sha256": run.split.digest()},
        device=made["device"],
        made_with=made["versions"],
        commands=tuple(told.get("commands", ())),
        seconds={name: record["seconds"] for name, record in records.items()},
        peak_memory_mb={name: record["peak_memory_mb"] for name, record in records.items()},
    )


def _pools(shop: Workshop) -> dict[Part, Pool]:
    """The split's samples by part, without those parts that have none."""
    run: ClassifierRun = shop.run
    split, data = run.split, run.data
    device = shop.accelerator.device
    found: dict[Part, Pool] = {}
    trained = split.labels(data)
    own: tuple[tuple[Part, tuple[int, ...]], ...] = (
        ("forget", split.forget),
        ("retain", split.retain),
        ("validation", split.validation),
    )
    for part, numbers in own:
        if numbers:
            at = torch.tensor(numbers)
            found[part] = Pool(data.train, at, trained[at], BATCH, (run.seed, part), device)
    judged: tuple[tuple[Part, tuple[int, ...]], ...] = (
        ("test", split.test),
        ("attack", split.attack),
        ("forgotten", split.forgotten),
    )
    for part, numbers in judged if run.judged == "test" else ():
        if numbers:
            at = torch.tensor(numbers)
            labels = data.test.labels[at]
            found[part] = Pool(data.test, at, labels, BATCH, (run.seed, part), device)
    if run.judged == "validation":
        found["test"] = found.pop("validation")
    return found
