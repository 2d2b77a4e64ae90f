"""Attacks on the model of a run, asked and judged as the run's own images are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.eval.recovery import ATTACK
from erase.runs.attacks import NO_MODEL, SEEDS
from erase.runs.folder import RunFolder, model_of
from erase.runtime.errors import UserError

if TYPE_CHECKING:
    from erase.eval.attacks import Size
    from erase.prompts.concept import Concept
    from erase.runs.attacks.inquiry import Inquiry
    from erase.runs.run import Run


CONCEPT = "{concept}"


@dataclass(frozen=True)
class Attacks:
    """What is tried on a model.

    Attributes:
        names: of the attacks; () are all.
        budget: what each may spend.
        floor: a model that never knew the concept, whose name ``{concept}`` stands for; None see
            ``inquiry.make_inquiry``.
    """

    names: tuple[str, ...] = ()
    budget: Size = "quick"
    floor: str | None = None

    def check(self, concepts: int, seed: int = 0) -> None:
        """Refuses names that are no attack's, one floor for several concepts, and a seed of a run
        that is too large.

        Raises:
            UserError: naming what is wrong.
        """
        from erase.eval.attacks import load_attack
        from erase.runtime.seeding import checked_seed

        checked_seed(seed, SEEDS - 1)
        for name in self.names:
            load_attack(name)
        floor = self.floor or NO_MODEL
        if floor != NO_MODEL and concepts > 1 and CONCEPT not in floor:
            raise UserError(
                f"--floor {self.floor} is one model for {concepts} concepts, and each needs one "
                f"that never knew it: put {CONCEPT} in its name, e.g. never-{CONCEPT}."
            )

    def floor_of(self, concept: Concept, base: str) -> str | None:
        """The floor of one concept, by its name without its family; None where the base is asked by
        an unknown word."""
        from erase.formats.base import never_knew
        from erase.prompts.concept import own_name

        floor = self.floor or never_knew(base, concept.name)
        if floor is None or floor == NO_MODEL:
            return None
        return floor.replace(CONCEPT, own_name(concept.name).replace("/", "-"))


def check_attacks(run: Run, wanted: Attacks, fetch: bool = True) -> None:
    """Refuses, before a run, attacks that could not be made after it.

    Args:
        run: whose model is to be attacked.
        wanted: what is to be tried.
        fetch: whether a floor or a judge may be downloaded; without, it is not looked at.

    Raises:
        UserError: no such floor, or no judge of a concept.
    """
    from erase.eval.metrics import classifier
    from erase.eval.recovery.witness import load_witness
    from erase.formats.base import on_disk, open_base
    from erase.runs.attacks.execute import first_alone, setting_of
    from erase.runtime.devices import accelerator

    device = accelerator(run.compute.device, "fp32", False, several=True).device
    for number in range(len(run.targets)):
        asked = inquiry_of(run, number, wanted, run.model, place_of(run, number))
        if asked.floor is not None and (fetch or on_disk(asked.floor)):
            first_alone(partial(open_base, asked.floor))
        setting = setting_of(asked, device, fetch)
        if asked.concept.kind != "nudity":
            found = classifier.build(setting)
            if found.judges or found.unfetched:
                continue
        elif not fetch:
            continue
        load_witness(setting)


def inquiry_of(
    run: Run, number: int, wanted: Attacks, model: str, out: Path, **facts: Any
) -> Inquiry:
    """The attacks on a run's model for one of its concepts.

    Args:
        run: the run.
        number: of the concept, from 0.
        wanted: what is tried.
        model: the run's model.
        out: folder of the results.
        facts: see ``Inquiry.facts``.

    Raises:
        UserError: see ``make_inquiry``.
    """
    from erase.runs.attacks.inquiry import make_inquiry

    floor = wanted.floor_of(run.targets[number].concept, run.model)
    return make_inquiry(
        model,
        run.model,
        run.targets[number].named[0],
        run.sampler(),
        attacks=wanted.names,
        budget=wanted.budget,
        floor=NO_MODEL if floor is None else model_of(floor),
        # Seed 0 is the bounds'.
        seed=run.seed + 1,
        out=out,
        batch=run.recipe.sampling_batch,
        instruments=run.instruments,
        retain=run.sources.retain,
        device=run.compute.device,
        deterministic=run.compute.deterministic,
        anchor=run.targets[number].named[1],
        facts={**facts, "nudity": run.instruments.nudity is not None},
    )


def place_of(run: Run, number: int) -> Path:
    """Where the attacks on a run are kept: beside the report of the concept."""
    several = len(run.targets) > 1
    return (run.out / "concepts" / run.places()[number] if several else run.out) / ATTACK


def attack_run(run: Run, wanted: Attacks, overwrite: bool = False, command: str = "") -> None:
    """Attacks a finished run's model for each of its concepts, and writes its report anew.

    Raises:
        UserError: see ``execute.attack``.
    """
    from erase.runs.attacks.execute import attack
    from erase.runs.execute import report_again

    trained = RunFolder.open(run.out).stages.get("train", {}).get("digest")
    model = str(run.out / "model")
    for number in range(len(run.targets)):
        place = place_of(run, number)
        attack(inquiry_of(run, number, wanted, model, place, made_by=trained), overwrite, command)
    report_again(run.out, run.compute.device)
