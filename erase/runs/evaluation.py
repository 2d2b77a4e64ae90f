"""The images of the evaluation, as requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from erase.prompts.groups import group_rows
from erase.prompts.held_out import evaluation_rows
from erase.runs.run import Run
from erase.runtime.errors import UserError
from erase.runtime.words import fold

if TYPE_CHECKING:
    from erase.images.request import Request
    from erase.prompts.prompt_set import Row


def requests(run: Run) -> dict[str, list[Request]]:
    """The evaluation images of each side, those of several concepts together."""
    found: dict[str, dict[tuple[str, str], Request]] = {}
    for number in range(len(run.targets)):
        for side, rows in requests_of(run, number).items():
            for row in rows:
                if found.setdefault(side, {}).setdefault((row.set, row.file), row) != row:
                    raise UserError(
                        f"Two different prompt sets are called '{row.set}': rename one of them."
                    )
    return {side: list(rows.values()) for side, rows in found.items()}


def deciding(run: Run) -> dict[str, list[Request]]:
    """The requests by which runs are told apart.

    The second base set's everyday captions repeat the first one's, which are counted there: what
    was finished without them stays finished.
    """
    return {
        side: [r for r in rows if side != "base2" or r.role != "general"]
        for side, rows in requests(run).items()
    }


def requests_of(run: Run, number: int) -> dict[str, list[Request]]:
    """The evaluation images of each side for one of the run's concepts.

    The first side of the base model and the erased model's hold the forget and the retained prompts
    and what else may be damaged; ``base2`` repeats the retained ones and the everyday captions
    with other seeds.

    Args:
        run: the run.
        number: of one of its concepts, from 0; prompts of the others are not retained.
    """
    from erase.images.plan import OTHER_SEEDS, plan

    recipe, shift = run.recipe, run.eval_shift
    concept, several = run.targets[number].concept, len(run.targets) > 1
    own = Path(concept.evaluation or "").stem  # a set may be a CSV file
    forget, retain = evaluation_rows(concept, run.sources.retain)
    # Prompts that are in no set have no numbers that tell those of one concept from another's.
    mine, others = own or "concept", own or "retained"
    place = run.places()[number]
    if several and not own:
        mine = f"concept-{place}"
        others = "retained" if run.sources.retain else f"retained-{place}"
    trained = run.trained_prompts()

    def held_out(rows: Sequence[Row]) -> tuple[Row, ...]:
        """Rows of no concept to forget that were not trained on."""
        return tuple(
            r for r in rows if fold(r.prompt) not in trained and not run.forgets(r.prompt, r.labels)
        )

    retain = held_out(retain)
    if not retain:
        raise UserError(
            f"No retained prompt is left for judging {run.name}: all are used in training or name "
            "what is to be erased. Give another --retain."
        )
    kept = plan(retain, recipe.eval_retain, others, "retain", shift)
    both = [*plan(forget, recipe.eval_forget, mine, "forget", shift), *kept]
    other = plan(retain, recipe.eval_retain, others, "retain", shift + OTHER_SEEDS)
    counts = {"neighbour": recipe.eval_neighbours, "general": recipe.eval_general}
    counts["empty"] = recipe.eval_empty
    groups = group_rows(concept, run.sources.retain, run.sources.neighbours)
    for group, (name, rows) in groups.items():
        if group != "empty":
            rows = held_out(rows)
        if several:
            name = f"{name}-{place}" if group == "neighbour" else name
        count = counts[group] if rows else 0
        both += plan(rows, count, name, group, shift)
        if group == "general":
            other += plan(rows, count, name, group, shift + OTHER_SEEDS)
    return {"base": both, "base2": other, "erased": both}
