"""A whole run, stage by stage: erasing (``erase``), then the evidence (``erase.eval``)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.eval.report.result import Report
from erase.images.make import Samples, Shared
from erase.methods import edits, load_method
from erase.runs.base_check import check_base
from erase.runs.evaluation import requests, requests_of
from erase.runs.folder import Plan, RunFolder
from erase.runs.make import resume
from erase.runs.manner import USUAL, Manner
from erase.runs.outline import Course, announce
from erase.runs.plan import describe
from erase.runs.preflight import Ready, prepare
from erase.runs.rates import machine, remember
from erase.runs.run import Run
from erase.runs.wording import cut_off, training_prompts
from erase.runtime import processes
from erase.runtime.devices import accelerator, memory_told
from erase.runtime.errors import UserError
from erase.runtime.files import digest
from erase.runtime.machine import versions
from erase.runtime.notes import note

if TYPE_CHECKING:
    from erase.diffusion.data import TrainingData
    from erase.diffusion.model import Diffusion
    from erase.unlearn.fit import Watch


@dataclass(frozen=True)
class Sitting:
    """What is left to do of a run, and with what; neither model nor judges, which need the memory
    in turn.

    Attributes:
        run: with its precision settled.
        folder: locked.
        plan: what the stages read.
        model: fingerprints of the base model's components.
        accelerator: the device.
        ways: how networks are run there, see ``Diffusion.load``.
        todo: the stages that are not finished.
        manner: what is done beside the results.
        course: told of each stage.
        shared: where images of the base model are looked for and left.
    """

    run: Run
    folder: RunFolder
    plan: Plan
    model: Mapping[str, str]
    accelerator: Any
    ways: Mapping[str, Any]
    todo: Sequence[str]
    manner: Manner
    course: Course
    shared: Shared | None

    def stage(self, name: str) -> AbstractContextManager[dict[str, Any]]:
        """Tells of a stage and records it, see ``RunFolder.stage``."""
        self.course.reach(name)
        return self.folder.stage(name, self.plan)


def execute(
    run: Run,
    stages: Sequence[str],
    overwrite: bool = False,
    manner: Manner = USUAL,
    *,
    command: str = "",
) -> Report:
    """Checks all that the stages will need, then does those that are not finished yet, in order.

    Args:
        run: checked by ``make_run``.
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
    ready = prepare([run], stages, overwrite)
    run, wanted, diffusion = ready.run, ready.wanted, ready.diffusion
    assert diffusion is not None
    _tell_cut(run, diffusion)
    with RunFolder(run.out).lock(), memory_told():
        sitting = _settle(ready, overwrite, manner, command)
        folder = sitting.folder
        anew = [stage for stage in sitting.todo if stage not in folder.stages]
        if manner.told and processes.is_main():
            announce(ready, sitting.todo)
        key = machine(ready)
        del ready  # the judges are opened again where there is something to judge
        processes.wait()
        _erase(sitting, diffusion)
        del diffusion  # a second model beside it would double the memory
        _prove(sitting)
        sitting.course.end()
        if processes.is_main() and not run.shared:
            remember(key, run, folder.stages, anew)
        processes.wait()
        if "eval" not in wanted:
            return Report()
        from erase.eval.report.evaluate import read_report

        return read_report(run.out)


def _settle(ready: Ready, overwrite: bool, manner: Manner, command: str) -> Sitting:
    """The run folder as it is now, under the lock: another run may have written since.

    The first process clears what is to be redone, the others take up what it left.
    """
    run, acc, model, plan = ready.run, ready.accelerator, ready.model, ready.plan
    assert model is not None and plan is not None
    problem = None
    if processes.is_main():
        try:
            folder = RunFolder.open(run.out)
            folder.reconcile(plan, ready.wanted, overwrite)
            sweep(run.out)
            folder.facts.update(describe(run, model, str(acc.device)))
            commands = folder.facts.setdefault("commands", [])
            if command and command not in commands and not all(map(folder.finished, ready.wanted)):
                commands.append(command)
            folder.save()
        except UserError as error:
            problem = str(error)
    processes.agree(problem)
    folder = RunFolder.open(run.out)
    shared = None
    if run.shared:
        deterministic = run.compute.deterministic
        arithmetic = [acc.device.type, acc.mixed_precision, deterministic]
        made_by = digest([model, arithmetic, ready.ways, versions()])
        shared = Shared(run.shared / "images", made_by)
    unmade = () if load_method(run.recipe.method).NEEDS.trains else ("images", "mask")
    todo = [s for s in ready.wanted if s not in unmade and not folder.finished(s)]
    course = Course([s for s in ready.wanted if s not in unmade], todo, manner.told)
    return Sitting(run, folder, plan, model, acc, ready.ways, todo, manner, course, shared)


def _erase(sitting: Sitting, diffusion: Diffusion) -> None:
    """The stages that the base model is for."""
    run, folder, todo, shared = sitting.run, sitting.folder, sitting.todo, sitting.shared
    if "train" in todo and sitting.manner.ask_base:
        check_base(run, diffusion, folder, sitting.plan, shared, anyway=sitting.manner.anyway)
    if "images" in todo:
        from erase.runs.stages import make_images

        with sitting.stage("images") as record:
            record["making"] = make_images(run, diffusion, shared)
    if "base" in todo:
        with sitting.stage("base"):
            generate_sides(run, diffusion, ("base", "base2"), shared)
    if "mask" in todo or "train" in todo:
        _check_judges(run, folder, diffusion.device)
        _mask_and_train(sitting, diffusion)


def _mask_and_train(sitting: Sitting, diffusion: Diffusion) -> None:
    from erase.runs.stages import make_mask, training_data
    from erase.runs.watching import watching

    run, todo = sitting.run, sitting.todo
    data = training_data(run, diffusion)
    watched = sitting.manner if "train" in todo else USUAL
    # It embeds its prompts while the text encoders are still on the device.
    with watching(run, diffusion, watched, sitting.accelerator) as watch:
        if run.recipe.low_memory:
            diffusion.lighten(load_method(run.recipe.method).NEEDS.word)
        if "mask" in todo:
            with sitting.stage("mask"):
                make_mask(run, diffusion, data, sitting.model)
        if "train" in todo:
            _train(sitting, diffusion, data, watch)


def _train(sitting: Sitting, diffusion: Diffusion, data: TrainingData, watch: Watch | None) -> None:
    from erase.formats.base import open_base
    from erase.formats.pipeline import save_model
    from erase.runs.card import write_card
    from erase.runs.stages import mask_of, train
    from erase.unlearn.fit import logged_seconds

    run, acc = sitting.run, sitting.accelerator
    with sitting.stage("train") as record:
        mask = mask_of(run, diffusion)
        part = load_method(run.recipe.method).NEEDS.part
        known = sitting.model["denoiser"] if part == "denoiser" else None
        mask.check_fits(diffusion.part(part), known)
        base, key = open_base(run.model), sitting.plan.digests()["train"]
        state = train(run, diffusion, data, mask, acc, key, base, watch)
        record["worked"] = logged_seconds(run.out)
        if processes.is_main():
            save_model(base, state, run.out / "model")
            write_card(run.out / "model", run.out, base)
        processes.wait()
    if processes.is_main():
        sweep(run.out)
    processes.wait()


def _prove(sitting: Sitting) -> None:
    """The stages that need the erased model alone, or its images."""
    from erase.diffusion.model import Diffusion
    from erase.formats.base import open_base
    from erase.runs.card import write_card

    run, device = sitting.run, sitting.accelerator.device
    if "erased" in sitting.todo:
        with sitting.stage("erased"):
            erased = Diffusion.load(str(run.out / "model"), device, **sitting.ways)
            generate_sides(run, _maker(run, erased), ("erased",))
            del erased
    if "eval" in sitting.todo:
        with sitting.stage("eval"):
            _evaluate(run, device)
            if processes.is_main():
                write_card(run.out / "model", run.out, open_base(run.model))


def _maker(run: Run, erased: Diffusion) -> Samples:
    """What samples from the erased model: itself, but for a method that guides sampling."""
    if edits(run.recipe.method):
        return erased
    word = ", ".join(target.concept.word for target in run.targets)
    made: Samples = load_method(run.recipe.method).maker(erased, run.recipe.config, word)  # type: ignore[attr-defined]
    return made


def _check_judges(run: Run, folder: RunFolder, device: Any) -> None:
    """Asks the judges about the base model's images, where there are any, before training."""
    from erase.eval.report.evaluate import check_judges

    if not folder.finished("base"):
        return
    for number, target in enumerate(run.targets):
        check_judges(
            run.out,
            target.concept,
            target.anchor,
            run.instruments,
            device=device,
            store=run.measured,
            only=_own_images(run, number),
        )


def _own_images(run: Run, number: int) -> set[tuple[str, int, int]] | None:
    """The images of one of several concepts; None for the only one, whose are all."""
    if len(run.targets) == 1:
        return None
    asked = requests_of(run, number).values()
    return {(r.set, r.case_number, r.k) for rows in asked for r in rows}


def _tell_cut(run: Run, diffusion: Diffusion) -> None:
    """Says which prompts of the evaluation are cut off, besides those that ``check`` told of."""
    before = {prompt for each in training_prompts(run).values() for prompt in each}
    asked = [row.prompt for rows in requests(run).values() for row in rows]
    if text := cut_off(diffusion.reader, {"evaluation": [p for p in asked if p not in before]}):
        note(text)


def _evaluate(run: Run, device: Any) -> None:
    """Writes the report; of several concepts, one for each and one over all."""
    from erase.eval.report.evaluate import evaluate
    from erase.eval.report.several import conclude

    several, places = len(run.targets) > 1, []
    own = [_own_images(run, number) for number in range(len(run.targets))]
    for target, name, only in zip(run.targets, run.places(), own, strict=True):
        out = run.out / "concepts" / name if several else None
        if out:
            places.append(out)
        evaluate(
            run.out,
            target.concept,
            target.anchor,
            run.instruments,
            device=device,
            store=run.measured,
            only=only,
            out=out,
        )
    if places and processes.is_main():
        conclude(run.out, places, own)


def report_again(folder: Path, device: str = "auto") -> None:
    """Writes the report of a finished run anew, from what was measured, and its card.

    Args:
        folder: of the run.
        device: where judges compute what was not measured yet.

    Raises:
        UserError: its images are gone, or another process is at work in the folder.
    """
    from erase.formats.base import open_base
    from erase.runs.card import write_card

    run = resume(folder)
    assert run is not None
    with RunFolder(folder).lock():
        found = accelerator(device, "fp32", deterministic=False, several=True)
        _evaluate(run, found.device)
        if processes.is_main():
            write_card(run.out / "model", run.out, open_base(run.model))
        processes.wait()


def sweep(out: Path) -> None:
    """Removes what has served: checkpoints of a finished model, leftovers of killed writers."""
    if RunFolder.open(out).finished("train"):
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
    for leftover in out.rglob(".*.part"):
        if leftover.is_file():
            leftover.unlink(missing_ok=True)


def generate_sides(
    run: Run, diffusion: Samples, sides: Sequence[str], shared: Shared | None = None
) -> None:
    """Makes the evaluation images of some sides."""
    from erase.images.make import generate

    batch = run.recipe.sampling_batch
    for side, rows in requests(run).items():
        if side not in sides:
            continue
        for name in dict.fromkeys(r.set for r in rows):
            own = [r for r in rows if r.set == name]
            folder = run.out / "eval" / side / name
            generate(diffusion, own, folder, run.sampler(), batch, f"{side} images", shared)
