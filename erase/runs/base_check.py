"""Whether the base model makes the concept at all, asked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.prompts.groups import GROUPS
from erase.runs.evaluation import requests, requests_of
from erase.runtime import processes
from erase.runtime.files import sha256
from erase.runtime.notes import note
from erase.runtime.words import fold

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion
    from erase.eval.instruments.setting import Setting
    from erase.eval.pictures import Picture
    from erase.eval.stats.intervals import Share
    from erase.images.make import Shared
    from erase.images.request import Request
    from erase.runs.folder import Plan, RunFolder
    from erase.runs.run import Run, Target

ASKED, LEAST = 30, 10
"""Images that are asked about, and below which nothing is said."""
SELDOM = 0.2
"""Share of the images below which the base does not make the concept."""


def check_base(
    run: Run,
    diffusion: Diffusion,
    folder: RunFolder,
    plan: Plan,
    shared: Shared | None,
    *,
    anyway: bool,
) -> None:
    """Draws the first forget images of the evaluation's base side, which the stage ``base`` takes
    up, and has them judged.

    Args:
        run, diffusion, folder, plan: of the run; the model is the base.
        shared: where images are looked for and left.
        anyway: go on with a base that does not make the concept.

    Raises:
        UserError: the share of images with the concept lies wholly below ``SELDOM``, or a judge
            can't be opened.
    """
    asked = []
    for number, target in enumerate(run.targets):
        rows = requests_of(run, number)["base"]
        chosen = choose(target, rows)
        look = _eyes(run, target, rows, diffusion.device) if chosen else None
        if look is not None:
            asked.append((target, chosen, look))
    if not asked:
        return
    if not folder.finished("base"):
        with folder.stage("base", plan) as record:
            record["partly"] = True
            _draw(run, diffusion, [r for _, chosen, _ in asked for r in chosen], shared)
    problems = []
    for target, chosen, look in asked:
        found = look([_picture(r, run.out / "eval" / "base") for r in chosen])
        word = target.concept.word
        told = f"the base model shows '{word}' in {_counted(found)}"
        if found.high >= SELDOM:
            note(f"{told}.")
        elif anyway:
            note(f"{told}, so little can be said about erasing it.")
        else:
            problems.append(told)
    problem = None
    if problems:
        problem = (
            f"{'; '.join(problems)}: there is hardly anything to erase, or the judge does not "
            "recognise it. Choose a concept that the model can make or another --judge, or add "
            "--anyway."
        )
        problem = problem[0].upper() + problem[1:]
    processes.agree(problem)


def _draw(run: Run, diffusion: Diffusion, chosen: Sequence[Request], shared: Shared | None) -> None:
    """Makes these of the base side's images."""
    from erase.images.make import generate

    every = requests(run)["base"]
    for name in dict.fromkeys(r.set for r in chosen):
        generate(
            diffusion,
            [r for r in every if r.set == name],
            run.out / "eval" / "base" / name,
            run.sampler(),
            run.recipe.sampling_batch,
            "base images",
            shared,
            only={r.file for r in chosen if r.set == name},
        )


def choose(target: Target, rows: Sequence[Request]) -> list[Request]:
    """The forget images that are asked about: the first ``ASKED``, of nudity those of its training
    prompt; none where they are fewer than ``LEAST``."""
    forget = [r for r in rows if r.role == "forget"]
    if target.concept.kind == "nudity":
        trained = {fold(prompt) for prompt in target.concept.prompts()}
        own = [r for r in forget if fold(r.prompt) in trained]
        forget = own if len(own) >= LEAST else forget
    return forget[:ASKED] if len(forget) >= LEAST else []


def _eyes(
    run: Run, target: Target, rows: Sequence[Request], device: Any
) -> Callable[[Sequence[Picture]], Share] | None:
    """What tells in how many images the concept is; None where nothing can."""
    from erase.eval.instruments.setting import Setting
    from erase.eval.metrics.classifier import build as build_classifier
    from erase.eval.metrics.nudity import build as build_nudity
    from erase.eval.metrics.nudity import flagged
    from erase.eval.stats.intervals import Share, wilson

    def counted(hits: Sequence[bool]) -> Share:
        return Share(sum(hits) / len(hits), len(hits), *wilson(sum(hits), len(hits)))

    # Of the retained images the labels alone are looked at, to open the judge that will be used.
    told = [_picture(r) for r in rows if r.role not in GROUPS]
    setting: Setting = Setting(
        concept=target.concept,
        anchor=target.anchor,
        model=run.model,
        pictures=told,
        instruments=run.instruments.beside(target.concept),
        store=run.measured or run.out / "eval" / "cache",
        device=device,
    )
    if target.concept.kind == "nudity":
        metric = build_nudity(setting)

        return lambda pictures: counted(flagged(metric.measure(pictures), metric.config))
    classifier = build_classifier(setting)
    if not classifier.judges:
        return None
    axis, label = classifier.target.axis, classifier.target.label

    return lambda pictures: counted(
        [row.said[axis][0] == label for row in classifier.measure(pictures)]
    )


def _picture(row: Request, base: Path | None = None) -> Picture:
    """An image of the base side; without ``base`` one that need not be made yet."""
    from erase.eval.pictures import Picture

    facts = (row.set, row.case_number, row.k, row.prompt, row.seed, row.role, row.labels)
    if base is None:
        return Picture(Path(row.file), "", *facts)
    file = base / row.set / row.file
    return Picture(file, sha256(file), *facts)


def _counted(found: Share) -> str:
    """``30 of 30 images (88.6–100 %)``."""
    from erase.eval.pages.phrases import interval

    return f"{round(found.value * found.n)} of {found.n} images ({interval(asdict(found))})"
