"""What a run will do, said before it starts, and where it stands."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from erase.recipes.choice import default_recipe
from erase.recipes.recipe import load_recipe
from erase.runs.estimate import HOUR, duration, seconds
from erase.runs.folder import RunFolder
from erase.runs.preflight import Ready
from erase.runs.rates import Rates, rates
from erase.runs.run import Run
from erase.runtime import processes
from erase.runtime.errors import clipped

if TYPE_CHECKING:
    from erase.prompts.concept import Concept

COURSE = ("images", "base", "mask", "train", "erased", "eval")
"""The stages in the order in which a run does them."""
TITLES = {"base": "base images", "erased": "erased images"}
"""Of stages whose names say too little."""
GENERAL = "salun-sd"
"""The recipe of concepts that have none of their own."""


@dataclass
class Course:
    """Says which stage a run has reached, on stderr.

    Attributes:
        wanted: the stages asked for.
        todo: those that are not finished.
        told: whether anything is said.
    """

    wanted: Collection[str]
    todo: Collection[str]
    told: bool = True
    _passed: int = field(default=0, init=False)

    def reach(self, stage: str) -> None:
        """Says that a stage begins, and that those before it are finished."""
        self._say(self._names.index(stage) + 1)

    def end(self) -> None:
        """Says that the rest is finished."""
        self._say(len(self._names))

    @property
    def _names(self) -> list[str]:
        return [stage for stage in COURSE if stage in self.wanted]

    def _say(self, until: int) -> None:
        names = self._names
        for number in range(self._passed, until):
            name = names[number]
            done = "" if name in self.todo else ", already finished"
            if self.told:
                tell(f"stage {number + 1} of {len(names)}: {TITLES.get(name, name)}{done}")
        self._passed = until


def tell(text: str) -> None:
    """Says a line on stderr; of several processes the first one does."""
    if processes.is_main():
        print(text, file=sys.stderr, flush=True)


def announce(ready: Ready, todo: Sequence[str]) -> None:
    """Says what a run will do and how long that is likely to take; nothing where nothing is left.

    Args:
        ready: the run.
        todo: stages that are not finished.
    """
    if not todo:
        return
    found = rates(ready)
    run = ready.run
    for line in head(run):
        tell(line)
    stages = [TITLES.get(s, s) for s in COURSE if s in todo]
    tell(f"stages    {', '.join(stages)}")
    begun = any(stage in RunFolder.open(run.out).stages for stage in todo)
    partly = "; part of it is done already" if begun else ""
    tell(f"time      {time_told(ready, found, todo)}{partly}")
    if text := long_told([run], found, todo):
        tell(text)


def head(run: Run) -> list[str]:
    """Model, concepts with their anchors, recipe and folder, a line each."""
    pairs = ", ".join(
        called(c) if anchor is None else f"{called(c)} -> {called(a)}"
        for c, a, (_, anchor) in run.targets
    )
    recipe = run.recipe
    method = "" if recipe.name.startswith(recipe.method) else f" ({recipe.method})"
    return [
        f"model     {run.model}",
        f"concept   {pairs}",
        f"recipe    {recipe.name}{method}",
        f"folder    {run.out}",
    ]


def called(concept: Concept) -> str:
    """A concept's name, or its prompt, which is marked as one: no name was meant by it."""
    if concept.kind != "text":
        return concept.name
    return f"'{clipped(concept.name)}' (a prompt)" if concept.name else "the empty prompt"


def time_told(ready: Ready, found: Rates, todo: Sequence[str], count: int = 1) -> str:
    """How long stages are likely to take, and how that is known.

    Args:
        ready: the run.
        found: of this machine.
        todo: stages.
        count: of such runs.
    """
    if found.busy:
        return "can't be estimated while other work keeps this machine busy"
    return f"about {duration(count * seconds(ready.run, found, todo))} ({found.source})"


def long_told(runs: Sequence[Run], found: Rates, todo: Sequence[str]) -> str | None:
    """A sentence where the runs are likely to take over an hour, with what would be shorter."""
    run = runs[0]
    own = seconds(run, found, todo)
    total = own * len(runs)
    if found.busy or total <= HOUR:
        return None
    text = f"This is likely to take over an hour: about {duration(total)}."
    recipe, concept = run.recipe, run.targets[0].concept
    alone = run.model == "mini" or bool(concept.classes)
    if recipe.name != default_recipe(run.model, concept) or alone:
        return f"{text} Fewer images (--eval-retain and others) or --steps make it shorter."
    if recipe.name != GENERAL:
        general = replace(run, recipe=load_recipe(GENERAL))
        shorter = seconds(general, found, todo) * len(runs)
        if shorter < 0.8 * total:
            return (
                f"{text} The default recipe of '{concept.name}' is {recipe.name}, as published; "
                f"--recipe {GENERAL} would take about {duration(shorter)}."
            )
    return f"{text} Fewer images (--eval-retain and others) or --steps make it shorter."
