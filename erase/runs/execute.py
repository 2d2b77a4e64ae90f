"""A whole run, stage by stage: erasing (``erase``), then the evidence (``erase.eval``)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.eval.report.result import Report
from erase.formats.foreign import place
from erase.images.make import Shared
from erase.runs.base_check import check_base
from erase.runs.evaluation import requests, requests_of
from erase.runs.folder import Plan, RunFolder
from erase.runs.manner import USUAL, Manner
from erase.runs.outline import Course, announce
from erase.runs.plan import describe
from erase.runs.preflight import prepare
from erase.runs.rates import machine, remember
from erase.runs.task import Task
from erase.runs.wording import cut_off, training_prompts
from erase.runtime import processes
from erase.runtime.devices import memory_told
from erase.runtime.errors import UserError
from erase.runtime.files import digest
from erase.runtime.machine import versions
from erase.runtime.notes import note

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion


def execute(
    task: Task,
    stages: Sequence[str],
    overwrite: bool = False,
    manner: Manner = USUAL,
    *,
    command: str = "",
) -> Report:
    """Checks all that the stages will need, then does those that are not finished yet, in order.

    Args:
        task: checked by ``make_task``.
        stages: as the command line names them: images, mask, train, generate, eval.
        overwrite: redo the stages whose inputs changed instead of refusing.
        manner: what is done beside the results.
        command: how this was asked for, to be told in the report.

    Returns:
        The report (``report.json``) where ``eval`` was among the stages, otherwise an empty one.

    Raises:
        UserError: bad input, changed inputs, a base model that does not make the concept, or a loss
            that is not finite.
    """
    from erase.diffusion.model import Diffusion
    from erase.formats.base import open_base
    from erase.runs.card import write_card

    ready = prepare([task], stages, overwrite)
    task, wanted, acc, ways = ready.task, ready.wanted, ready.accelerator, ready.ways
    diffusion, model, plan = ready.diffusion, ready.model, ready.plan
    assert diffusion is not None and model is not None and plan is not None
    _tell_cut(task, diffusion)
    shared = None
    if task.shared:
        deterministic = task.compute.deterministic
        made_by = digest([model, acc.device.type, deterministic, ways, versions()])
        shared = Shared(task.shared / "images", made_by)
    with RunFolder(task.out).lock(), memory_told():
        run = _settle(
            task, plan, wanted, overwrite, describe(task, model, str(acc.device)), command
        )
        todo = [stage for stage in wanted if not run.finished(stage)]
        anew = [stage for stage in todo if stage not in run.stages]
        course = Course(wanted, todo, manner.told)
        if manner.told and processes.is_main():
            announce(ready, todo)
        key = machine(ready)
        del ready  # the judges are opened again where there is something to judge
        processes.wait()
        if task.included and "train" in todo:
            with run.stage("train", plan):
                if processes.is_main():
                    place(task.included, open_base(task.model), run.path)
                processes.wait()
        if task.included:
            todo = [stage for stage in todo if stage not in ("images", "mask", "train")]
        if "train" in todo and manner.ask_base:
            check_base(task, diffusion, run, plan, shared, anyway=manner.anyway)
        if "images" in todo:
            from erase.runs.stages import make_images

            course.reach("images")
            with run.stage("images", plan) as record:
                record["making"] = make_images(task.job, diffusion, run.path, shared)
        if "base" in todo:
            course.reach("base")
            with run.stage("base", plan):
                generate_sides(task, diffusion, run.path, ("base", "base2"), shared)
        if "mask" in todo or "train" in todo:
            _check_judges(task, run, acc.device)
            _mask_and_train(task, diffusion, run, plan, todo, model, acc, manner, course)
        del diffusion  # a second model beside it would double the memory
        if "erased" in todo:
            course.reach("erased")
            with run.stage("erased", plan):
                erased = Diffusion.load(str(run.path / "model"), acc.device, **ways)
                generate_sides(task, erased, run.path, ("erased",))
        if "eval" in todo:
            course.reach("eval")
            with run.stage("eval", plan):
                _evaluate(task, run.path, acc.device)
                if processes.is_main():
                    write_card(run.path / "model", run.path, open_base(task.model))
        course.end()
        if processes.is_main() and not (task.shared or task.included):
            remember(key, task, run.stages, anew)
        processes.wait()
        if "eval" not in wanted:
            return Report()
        from erase.eval.report.evaluate import read_report

        return read_report(run.path)


def _check_judges(task: Task, run: RunFolder, device: Any) -> None:
    """Asks the judges about the base model's images, where there are any, before training."""
    from erase.eval.report.evaluate import check_judges

    if not run.finished("base"):
        return
    for number, target in enumerate(task.job.targets):
        check_judges(
            run.path,
            *target,
            task.instruments,
            device=device,
            store=task.shared / "measured" if task.shared else None,
            only=_own_images(task, number),
        )


def _own_images(task: Task, number: int) -> set[tuple[str, int, int]] | None:
    """The images of one of several concepts; None for the only one, whose are all."""
    if not task.job.also:
        return None
    asked = requests_of(task.job, number, task.eval_shift).values()
    return {(r.set, r.case_number, r.k) for rows in asked for r in rows}


def _tell_cut(task: Task, diffusion: Diffusion) -> None:
    """Says which prompts of the evaluation are cut off, besides those that ``check`` told of."""
    told = {} if task.included else training_prompts(task.job)
    before = {prompt for each in told.values() for prompt in each}
    asked = [row.prompt for rows in requests(task.job).values() for row in rows]
    if text := cut_off(diffusion.text, {"evaluation": [p for p in asked if p not in before]}):
        note(text)


def _evaluate(task: Task, run: Path, device: Any) -> None:
    """Writes the report; of several concepts, one for each and one over all."""
    from erase.eval.report.evaluate import evaluate
    from erase.eval.report.several import conclude

    job, places = task.job, []
    own = [_own_images(task, number) for number in range(len(job.targets))]
    for number, (target, name) in enumerate(zip(job.targets, job.places(), strict=True)):
        out = None
        if job.also:
            out = run / "concepts" / name
            places.append(out)
        evaluate(
            run,
            target.concept,
            target.anchor,
            task.instruments,
            device=device,
            store=task.shared / "measured" if task.shared else None,
            only=own[number],
            out=out,
        )
    if places and processes.is_main():
        conclude(run, places, own)


def _settle(
    task: Task,
    plan: Plan,
    wanted: Sequence[str],
    overwrite: bool,
    facts: Mapping[str, Any],
    command: str,
) -> RunFolder:
    """The run folder as it is now, under the lock: another run may have written since.

    The first process clears what is to be redone, the others take up what it left.
    """
    problem = None
    if processes.is_main():
        try:
            run = RunFolder.open(task.out)
            run.reconcile(plan, wanted, overwrite)
            sweep(run.path)
            run.facts.update(facts)
            commands = run.facts.setdefault("commands", [])
            if command and command not in commands and not all(map(run.finished, wanted)):
                commands.append(command)
            run.save()
        except UserError as error:
            problem = str(error)
    processes.agree(problem)
    return RunFolder.open(task.out)


def _mask_and_train(
    task: Task,
    diffusion: Diffusion,
    run: RunFolder,
    plan: Plan,
    todo: Sequence[str],
    model: Mapping[str, str],
    acc: Any,
    manner: Manner,
    course: Course,
) -> None:
    from erase.diffusion.scopes import read_mask
    from erase.formats.base import open_base
    from erase.formats.pipeline import save_model
    from erase.runs.card import write_card
    from erase.runs.stages import make_mask, train, training_data
    from erase.runs.watching import watching
    from erase.unlearn.fit import logged_seconds

    data = training_data(task.job, diffusion, run.path)
    watched = manner if "train" in todo else USUAL
    # It embeds its prompts while the text encoders are still on the device.
    with watching(task, diffusion, run.path, watched, acc) as watch:
        if task.job.recipe.low_memory:
            diffusion.lighten()
        if "mask" in todo:
            course.reach("mask")
            with run.stage("mask", plan):
                make_mask(task.job, diffusion, data, run.path, model)
        if "train" in todo:
            course.reach("train")
            with run.stage("train", plan) as record:
                mask = read_mask(run.path / "mask.safetensors")
                mask.check_fits(diffusion.denoiser, model["denoiser"])
                base, key = open_base(task.model), plan.digests()["train"]
                state = train(task.job, diffusion, data, mask, run.path, acc, key, base, watch)
                record["worked"] = logged_seconds(run.path)
                if processes.is_main():
                    save_model(base, state, run.path / "model")
                    write_card(run.path / "model", run.path, base)
                processes.wait()
            if processes.is_main():
                sweep(run.path)
            processes.wait()


def sweep(run: Path) -> None:
    """Removes what has served: checkpoints of a finished model, leftovers of killed writers."""
    if RunFolder.open(run).finished("train"):
        shutil.rmtree(run / "checkpoints", ignore_errors=True)
    for leftover in run.rglob(".*.part"):
        if leftover.is_file():
            leftover.unlink(missing_ok=True)


def generate_sides(
    task: Task,
    diffusion: Diffusion,
    run: Path,
    sides: Sequence[str],
    shared: Shared | None = None,
) -> None:
    """Makes the evaluation images of some sides."""
    from erase.images.make import generate

    batch = task.job.recipe.sampling_batch
    for side, rows in requests(task.job, task.eval_shift).items():
        if side not in sides:
            continue
        for name in dict.fromkeys(r.set for r in rows):
            own = [r for r in rows if r.set == name]
            folder = run / "eval" / side / name
            generate(diffusion, own, folder, task.job.sampler(), batch, f"{side} images", shared)
