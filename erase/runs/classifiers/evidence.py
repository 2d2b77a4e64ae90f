"""The evidence of a run: what its models say of every sample, handed to the report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from erase.classifiers.batches import Pool
from erase.classifiers.looking import predictions
from erase.eval.classifiers import gap
from erase.eval.classifiers.evidence import Case, Part, Side
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
    )

    def side(name: str, file: Path, *stages: str) -> Side:
        def answer() -> dict[str, Tensor]:
            classifier = shop.opened(file)
            return {part: predictions(classifier, pool) for part, pool in pools.items()}

        answers = shelf.answers(name, answer)
        records = [folder.stages[stage] for stage in stages]
        return Side(
            name,
            {part: answers[part].numpy() for part in pools},
            partial(shop.opened, file),
            samples=sum(r.get("samples", 0.0) for r in records),
            seconds=sum(r.get("trained", r["seconds"]) for r in records),
        )

    base = side("base", bases["base"], "train")
    unlearned = side("unlearned", run.out / WEIGHTS, "mask", "unlearn")
    retrained = [side(name, file, "retrain") for name, file in others.items()]
    measured = partial(shelf.figures, keys=keys)
    write(evaluate(case, base, unlearned, retrained, _facts(run, folder), measured), run.out)


def _facts(run: ClassifierRun, folder: RunFolder) -> Facts:
    """How the models came to be."""
    told = folder.facts
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
        device=told["device"],
        made_with=told["versions"],
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
