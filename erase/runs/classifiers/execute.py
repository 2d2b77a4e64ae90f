"""A whole run, stage by stage, and what it would do."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from erase.recipes.classifier import as_dict
from erase.runs.classifiers.graph import STAGES
from erase.runs.classifiers.run import ClassifierRun, check_counts, make_plan
from erase.runs.folder import RunFolder, check_stages
from erase.runtime import processes
from erase.runtime.devices import accelerator, determinism_told, memory_told
from erase.runtime.errors import UserError
from erase.runtime.machine import versions
from erase.runtime.notes import note

if TYPE_CHECKING:
    from erase.runs.classifiers.stages import Workshop

SMALLER = "lower --batch-size, or take a smaller --model"
"""What to do where memory is full."""


def open_workshop(run: ClassifierRun) -> Workshop:
    """Checks the run's device and builds its network once.

    Raises:
        UserError: the network can't be built, does not fit the data, its weights don't fit it, or
            the method can't forget so many samples.
    """
    from erase.classifiers.fitting import BATCH_NORM
    from erase.classifiers.models import Shape
    from erase.runs.classifiers.stages import Workshop

    channels, side = run.data.shape()
    mean, std = run.data.moments()
    shape = Shape(channels, side, len(run.data.classes), mean, std)
    made = accelerator(run.device, "fp32", run.deterministic, several=True)
    if run.recipe.batch_size % made.num_processes or run.training.batch % made.num_processes:
        raise UserError(
            f"{made.num_processes} processes can't share batches of {run.recipe.batch_size} and "
            f"{run.training.batch} evenly: give a --batch-size and a --train-batch that they "
            "divide."
        )
    shop = Workshop(run, made, shape)
    network = shop.network(run.model, run.seed).network
    if made.num_processes > 1 and any(isinstance(m, BATCH_NORM) for m in network.modules()):
        note(
            f"{run.model} has BatchNorm layers: each of the {made.num_processes} processes "
            "normalises its part of a batch alone, so the models are not those of one process."
        )
    check_counts(run)
    return shop


def execute(
    run: ClassifierRun,
    stages: Sequence[str] = tuple(STAGES.commands),
    overwrite: bool = False,
    *,
    command: str = "",
    told: bool = True,
) -> dict[str, Any]:
    """Does the stages that are not finished yet, in order.

    Args:
        run: checked by ``make_run``.
        stages: train, mask, unlearn, retrain, eval.
        overwrite: redo the stages whose inputs changed instead of refusing.
        command: how this was asked for, to be told in the report.
        told: whether the stages are announced.

    Returns:
        The content of ``report.json`` where ``eval`` was among the stages, otherwise {}.

    Raises:
        UserError: bad input, changed inputs, or a loss that is not finite.
    """
    check_stages(stages, STAGES)
    wanted = [stage for stage in STAGES.outputs if stage in stages]
    with memory_told(SMALLER):
        shop = open_workshop(run)
    plan = make_plan(run)
    RunFolder.open(run.out, STAGES).check_read([run.weights] if run.weights else [])
    with RunFolder.open(run.out, STAGES).lock(), memory_told(SMALLER), determinism_told():
        problem = None
        if processes.is_main():
            try:
                folder = RunFolder.open(run.out, STAGES)
                folder.reconcile(plan, wanted, overwrite)
                folder.facts.update(_facts(run, str(shop.accelerator.device)))
                commands = folder.facts.setdefault("commands", [])
                if command and command not in commands:
                    commands.append(command)
                folder.save()
            except UserError as error:
                problem = str(error)
        processes.agree(problem)
        folder = RunFolder.open(run.out, STAGES)
        for number, stage in enumerate(wanted, 1):
            done = folder.finished(stage)
            if told and processes.is_main():
                more = ", finished already" if done else ""
                from erase.runs.outline import tell

                tell(f"stage {number} of {len(wanted)}: {stage}{more}")
            if not done:
                with folder.stage(stage, plan) as record:
                    _do(stage, shop, plan.digests()[stage], record, folder)
        if "eval" not in wanted:
            return {}
        from erase.eval.report.result import read_object

        return read_object(run.out / "report.json")


def _do(stage: str, shop: Workshop, key: str, record: dict[str, Any], folder: RunFolder) -> None:
    from erase.runs.classifiers import stages

    run = shop.run
    if stage == "train":
        if processes.is_main():
            run.split.save(run.out / "split.json")
        record.update(stages.make_base(shop))
    elif stage == "mask":
        stages.make_mask(shop)
    elif stage == "unlearn":
        record["samples"] = stages.make_unlearned(shop, key)
        record["worked"] = stages.unlearned_in(run)
    elif stage == "retrain":
        record.update(stages.make_retrained(shop))
    else:
        from erase.runs.classifiers.evidence import prove

        if processes.is_main():
            prove(shop, folder)
        processes.wait()
    if processes.is_main():
        for place in run.out.rglob("checkpoints"):
            shutil.rmtree(place, ignore_errors=True)
    processes.wait()


def _facts(run: ClassifierRun, device: str) -> dict[str, Any]:
    """What ``run.json`` says besides the stages."""
    return {
        "classifier": {"source": run.model, "data": run.data.spec, "data_sha256": run.split.data},
        "forget": run.split.spec,
        "split": run.split.digest(),
        "seed": run.seed,
        "recipe": as_dict(run.recipe),
        "training": asdict(run.training),
        "retrains": run.retrains,
        "device": device,
        "processes": processes.count(),
        "deterministic": run.deterministic,
        "versions": versions(),
    }
