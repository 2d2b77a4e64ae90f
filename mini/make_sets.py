"""Writes the prompt sets that follow from a list of labels: ``python -m erase.mini.make_sets``.

The rows of a set take its labels and templates in turn, so that any first part of a set is a
balanced mixture of both. Every set has a range of seeds of its own, at most 10,000 rows long.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

from erase.mini import world
from erase.prompts.concept import articles, load_concept, members
from erase.prompts.prompt_set import SETS, SPACING
from erase.runtime.files import write_text

Cells = dict[str, str]
FIRST_SEED = {
    "mini": 10_000_000,
    "mini-train": 20_000_000,
    "imagenette": 40_000_000,
    "imagenette-train": 50_000_000,
    "imagenette-paraphrased": 60_000_000,
}
IMAGENETTE = {
    "imagenette": ("Image of {}",),
    "imagenette-train": ("an image of a {}",),
    "imagenette-paraphrased": (
        "a photo of a {}",
        "a picture of one {} on a sunny day",
        "the {} in this photograph",
        "a close-up of a {}",
        "{}, seen from some distance",
    ),
}
"""The evaluation prompt and the training prompt of SalUn, and others to see beyond them."""


def table(
    name: str,
    cells: Sequence[Cells],
    templates: Sequence[str],
    fill: Callable[[str, Cells], str],
) -> str:
    """A set as CSV text: every template with every cell, templates shifted from cell to cell.

    Args:
        name: of the set.
        cells: labels of the rows of one round.
        templates: one round each.
        fill: makes the prompt.
    """
    rounds = range(len(templates))
    rows = [
        (templates[(i + turn) % len(templates)], c) for turn in rounds for i, c in enumerate(cells)
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["case_number", "prompt", "evaluation_seed", *cells[0]])
    for number, (template, labels) in enumerate(rows):
        seed = FIRST_SEED[name] + number * SPACING
        writer.writerow([number, fill(template, labels), seed, *labels.values()])
    return out.getvalue()


def mini_cells() -> list[Cells]:
    """The 12 x 4 grid in an order whose first parts are balanced over objects and over styles."""
    count = len(world.STYLES)
    return [
        {
            "object": obj.label,
            "style": world.STYLES[(i + turn) % count].label,
            "tuning": str(int(obj.tuning)),
        }
        for turn in range(count)
        for i, obj in enumerate(world.OBJECTS)
    ]


def imagenette_cells() -> list[Cells]:
    """The ten classes, each followed by its anchor."""
    concept = next(c for c in members("imagenette") if c.label == "tench")
    cells: list[Cells] = []
    while {"object": str(concept.label)} not in cells:
        cells.append({"object": str(concept.label)})
        concept = load_concept(str(concept.anchor))
    return cells


def make_sets() -> dict[str, str]:
    """CSV text by the name of the set."""

    def world_prompt(template: str, labels: Cells) -> str:
        return world.caption(template, labels["object"], labels["style"])

    def class_prompt(template: str, labels: Cells) -> str:
        return articles(template.replace("{}", labels["object"]))

    templates = {"mini": world.HELD_OUT_TEMPLATES, "mini-train": world.TEMPLATES}
    made = {name: table(name, mini_cells(), t, world_prompt) for name, t in templates.items()}
    for name, texts in IMAGENETTE.items():
        made[name] = table(name, imagenette_cells(), texts, class_prompt)
    return made


if __name__ == "__main__":
    for set_name, text in make_sets().items():
        write_text(SETS / f"{set_name}.csv", text)
