"""``erase attack``: does an erased concept come back?"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from erase.cli.arguments import BUDGET, BUDGETS, DETERMINISTIC, DEVICE, FLOOR, STRENGTH, Parser
from erase.cli.options import at_strength, attack_names, strength_of
from erase.eval.recovery import ATTACK
from erase.prompts.concept import CLASS
from erase.runs.folder import model_of, read_facts
from erase.runtime import processes
from erase.runtime.errors import UserError, clipped
from erase.runtime.places import short

if TYPE_CHECKING:
    from erase.recipes.recipe import Recipe

ABOUT = "attack an erased model: does the concept come back?"


def parser() -> ArgumentParser:
    """The flags of ``erase attack``."""
    made = Parser(ABOUT, "erase attack MODEL [options]")
    add = made.add_argument
    add("model", type=str, help="what is attacked: a run folder, any model, or a LoRA and the like")
    add("--base", type=str, help="what it was erased from (default: the run's, else mini)")
    add("--strength", **STRENGTH)
    add("--concept", type=str, help="what was erased (default: the run's)")
    add(
        "--attacks",
        type=str,
        action="append",
        help='comma-separated names from "erase list attacks" (default: all)',
    )
    add(
        "--budget",
        choices=BUDGETS,
        default="quick",
        help=BUDGET,
    )
    add(
        "--floor",
        type=str,
        help=FLOOR,
    )
    add(
        "--paraphrases",
        type=str,
        help="prompts in other words, one a line (default: the concept's own)",
    )
    add("--seed", type=int, default=1, help="random seed, >= 0; bounds always use 0 (default: 1)")
    add(
        "--out",
        type=str,
        help="folder of the results (default: attack in the run's folder, whose report then tells "
        "of it; of other models runs/attack-MODEL-CONCEPT)",
    )
    add("--overwrite", action="store_true", help="make attacks again whose inputs changed")
    group = made.add_argument_group("judging").add_argument
    group("--judge", type=str, help='see "erase list judges" (default: the concept\'s own)')
    group(
        "--strict-judge",
        type=str,
        help="a second judge that has to agree (default: the bundled model's own)",
    )
    group = made.add_argument_group("computing").add_argument
    group("--batch", type=int, help="images at a time, >= 1 (default: the recipe's)")
    group("--device", **DEVICE)
    group("--deterministic", **DETERMINISTIC)
    return made


def run_attack(chosen: Namespace, typed: Sequence[str]) -> None:
    """Does what a parsed ``erase attack`` asks for."""
    from erase.eval.instruments.choice import Instruments
    from erase.eval.instruments.nudenet import Config
    from erase.images.request import Sampler
    from erase.runs.attacks.execute import attack
    from erase.runs.attacks.inquiry import make_inquiry
    from erase.runs.execute import report_again

    record = Path(chosen.model) / "run.json"
    facts = read_facts(record) if record.exists() else {}
    given = facts.get("given", {})
    counted = given.get("nudity")
    base = chosen.base or str(facts.get("model", {}).get("source") or "mini")
    concept = chosen.concept or _only(given.get("concept"))
    if concept is None:
        raise UserError(
            f"{clipped(chosen.model)} is not a run's folder, so what was erased is not known: add "
            "--concept, e.g. --concept church."
        )
    if concept.startswith(CLASS) and not facts and not chosen.base:
        raise UserError(
            f"'{clipped(concept)}' is a class, and of which model is not said: add --base, the "
            "model that it was erased from."
        )
    settings = _settings(facts, base, concept)
    model = model_of(chosen.model)
    strength = strength_of(model, chosen.base, chosen.strength)
    if chosen.batch is not None and chosen.batch < 1:
        raise UserError(f"--batch is {chosen.batch}: give at least 1.")
    own = _place(Path(chosen.model), given, concept) if facts else None
    out = Path(chosen.out) if chosen.out else own or _apart(chosen.model, concept, strength)
    inquiry = make_inquiry(
        model,
        model_of(base),
        concept,
        Sampler(settings.sampler, settings.sampling_steps, settings.guidance_scale, settings.size),
        paraphrases=Path(chosen.paraphrases) if chosen.paraphrases else None,
        strength=strength,
        attacks=attack_names(chosen.attacks),
        budget=chosen.budget,
        floor=model_of(chosen.floor) if chosen.floor else None,
        seed=chosen.seed,
        out=out,
        batch=chosen.batch or settings.sampling_batch,
        instruments=Instruments(
            judge=chosen.judge or given.get("judge"),
            clip=given.get("clip"),
            nudity=Config(**counted) if counted else None,
        ),
        strict=chosen.strict_judge,
        retain=given.get("retain"),
        device=chosen.device,
        deterministic=chosen.deterministic,
        anchor=_anchor(given, concept),
        facts={
            "made_by": facts.get("stages", {}).get("train", {}).get("digest"),
            "nudity": given.get("nudity") is not None,
        },
    )
    command = f"erase {shlex.join(map(short, typed))}"
    found = attack(inquiry, chosen.overwrite, command)
    told = [*found["sentences"], found["floor"], str(out / "attack.html")]
    if out == own and (out.parent / "report.json").exists():
        report_again(Path(chosen.model), chosen.device)
        told.append(str(out.parent / "report.html"))
    if processes.is_main():
        print("\n".join(told))


def _place(run: Path, given: Mapping[str, Any], concept: str) -> Path | None:
    """The folder of a run's attacks, beside the concept's report; None for what it did not
    erase."""
    named = given.get("concept")
    if not isinstance(named, list):
        return run / ATTACK if concept == named else None
    from erase.runs.make import resume

    found = resume(run)
    if found is None or concept not in named:
        return None
    return run / "concepts" / found.places()[named.index(concept)] / ATTACK


def _anchor(given: Mapping[str, Any], concept: str) -> str | None:
    """What a run made of a concept; None where it did not erase it, or took the concept's own."""
    named, anchors = (
        own if isinstance(own, list) else [own]
        for own in (given.get("concept"), given.get("anchor"))
    )
    return dict(zip(named, anchors, strict=False)).get(concept)


def _apart(model: str, concept: str, strength: float | None) -> Path:
    from erase.runs.run import slug

    return Path("runs") / f"attack-{slug(Path(model).name)}{at_strength(strength)}-{slug(concept)}"


def _only(given: Any) -> str | None:
    """A run's concept.

    Raises:
        UserError: it erased several.
    """
    if isinstance(given, list):
        raise UserError(
            f"The run erased several concepts: attack one at a time with --concept "
            f"({' or '.join(given)})."
        )
    return None if given is None else str(given)


def _settings(facts: dict[str, Any], base: str, concept: str) -> Recipe:
    """How images are made: as the run's evaluation made them, else by the base's recipe."""
    from erase.recipes.choice import default_recipe
    from erase.recipes.recipe import load_recipe, recorded_recipe
    from erase.runs.make import concept_of, own_sampling

    if facts:
        return recorded_recipe(facts["recipe"])
    found = concept_of(concept, base)
    name = default_recipe(base, found)
    return load_recipe(name, own_sampling(base, name) if found.classes else {})
