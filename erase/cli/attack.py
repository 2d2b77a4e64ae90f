"""``erase attack``: does an erased concept come back?"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from erase.cli.arguments import DETERMINISTIC, DEVICE, Parser
from erase.cli.options import names
from erase.runs.folder import model_of, read_facts
from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.places import short

if TYPE_CHECKING:
    from erase.recipes.recipe import Recipe

ABOUT = "attack an erased model: does the concept come back?"
BUDGETS = ("quick", "full", "published")


def parser() -> ArgumentParser:
    """The flags of ``erase attack``."""
    made = Parser(ABOUT, "erase attack MODEL [options]")
    add = made.add_argument
    add("model", type=str, help="what is attacked: a run folder, or any model")
    add("--base", type=str, help="what it was erased from (default: the run's, else mini)")
    add("--concept", type=str, help="what was erased (default: the run's)")
    add(
        "--attacks",
        type=str,
        action="append",
        help='by commas, see "erase list attacks" (default: all)',
    )
    add(
        "--budget",
        choices=BUDGETS,
        default="quick",
        help="what each attack may spend, on 20, 60 or 142 images a side (default: quick)",
    )
    add(
        "--floor",
        type=str,
        help="a model that never knew the concept (default: the bundled one where there is one, "
        "else the base, asked by a made-up name)",
    )
    add("--paraphrases", type=str, help="prompts in other words, one a line (default: its own)")
    add("--seed", type=int, default=1, help="random seed, >= 0; the bounds' is 0 (default: 1)")
    add("--out", type=str, help="folder of the results (default: runs/attack-MODEL-CONCEPT)")
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
    from erase.images.request import Sampler
    from erase.runs.attacks.execute import attack
    from erase.runs.attacks.inquiry import make_inquiry
    from erase.runs.run import slug

    record = Path(chosen.model) / "run.json"
    facts = read_facts(record) if record.exists() else {}
    given = facts.get("given", {})
    base = chosen.base or str(facts.get("model", {}).get("source") or "mini")
    concept = chosen.concept or _only(given.get("concept"))
    if concept is None:
        raise UserError("What was erased is not said: add --concept, e.g. --concept church.")
    settings = _settings(facts, base, concept)
    model = model_of(chosen.model)
    if chosen.batch is not None and chosen.batch < 1:
        raise UserError(f"--batch is {chosen.batch}: give at least 1.")
    place = f"attack-{slug(Path(chosen.model).name)}-{slug(concept)}"
    inquiry = make_inquiry(
        model,
        model_of(base),
        concept,
        Sampler(settings.sampler, settings.sampling_steps, settings.guidance_scale, settings.size),
        paraphrases=Path(chosen.paraphrases) if chosen.paraphrases else None,
        attacks=names(chosen.attacks),
        budget=chosen.budget,
        floor=model_of(chosen.floor) if chosen.floor else None,
        seed=chosen.seed,
        out=Path(chosen.out) if chosen.out else Path("runs") / place,
        batch=chosen.batch or settings.sampling_batch,
        instruments=Instruments(judge=chosen.judge or given.get("judge")),
        strict=chosen.strict_judge,
        device=chosen.device,
        deterministic=chosen.deterministic,
    )
    command = f"erase {shlex.join(map(short, typed))}"
    found = attack(inquiry, chosen.overwrite, command)
    if processes.is_main():
        print("\n".join([*found["sentences"], found["floor"], str(inquiry.out / "attack.html")]))


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
    from erase.prompts.concept import load_concept
    from erase.recipes.recipe import default_recipe, load_recipe, make_recipe
    from erase.runs.make import family

    if facts:
        saved = dict(facts["recipe"])
        return make_recipe(saved.pop("name"), saved)
    return load_recipe(default_recipe(base, load_concept(concept, family(base))))
