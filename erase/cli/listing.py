"""Lists of what the folders hold, one line per entry, found without importing it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from erase.eval.metrics import METRICS, list_metrics

MODELS = {"-mini": "mini", "-mini-class": "mini-class", "-ddpm": "class-conditional"}
"""What recipes are for, by the ends of their names."""
Table = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Heads, and rows of as many texts."""


def recipes() -> Table:
    """Recipes with what they train, on what, for how long."""
    from erase.recipes.recipe import as_dict, idle, list_recipes, load_recipe, recipe_about

    rows = []
    for name in list_recipes():
        recipe = load_recipe(name)
        settings = as_dict(recipe)
        used = settings.keys() - idle(settings)
        images = [
            f"{settings[key]} {role}"
            for role in ("forget", "retain", "anchor")
            if (key := f"{role}_images") in used
        ]
        steps = str(settings.get("steps", "–"))
        about = recipe_about(name)
        rows.append((name, recipe.method, made_for(name), " + ".join(images) or "–", steps, about))
    return ("recipe", "method", "model", "training images", "steps", ""), rows


def made_for(recipe: str) -> str:
    """The models that a recipe is for."""
    ends = (model for end, model in MODELS.items() if recipe.endswith(end))
    return next(ends, "Stable Diffusion")


def methods() -> Table:
    """Methods with the paper they are from."""
    from erase.methods import METHODS, list_methods

    return ("method", ""), [(name, first_line(METHODS / f"{name}.py")) for name in list_methods()]


def metrics() -> Table:
    """Metrics with what they measure."""
    return ("metric", ""), [(n, first_line(METRICS / f"{n}.py")) for n in list_metrics()]


def attacks() -> Table:
    """Attacks with what they try."""
    from erase.eval.attacks import ATTACKS, list_attacks

    files = {name: ATTACKS / f"{name.replace('-', '_')}.py" for name in list_attacks()}
    return ("attack", ""), [(name, first_line(file)) for name, file in files.items()]


def concepts() -> Table:
    """Concepts with what they become and one of their prompts."""
    from erase.prompts.concept import list_concepts, load_concept

    rows = []
    for name in list_concepts():
        concept = load_concept(name)
        kind = f"{concept.kind}, for tuning" if concept.tuning else concept.kind
        rows.append((name, kind, concept.anchor or "–", concept.prompts()[0]))
    return ("concept", "kind", "anchor", "prompt"), rows


def sets() -> Table:
    """Prompt sets with their size, labels and first prompt."""
    from erase.prompts.prompt_set import list_sets, load_set

    rows = []
    for name in list_sets():
        found = load_set(name).rows
        labels = ", ".join(dict.fromkeys(axis for row in found for axis in row.labels)) or "–"
        rows.append((name, str(len(found)), labels, found[0].prompt))
    return ("set", "prompts", "labels", "first prompt"), rows


def judges() -> Table:
    """What a judge may be."""
    rows: list[Sequence[str]] = [
        ("mini", "the bundled model's own; used with it by default"),
        ("torchvision:NAME[@FILE]", "e.g. torchvision:resnet50, with ImageNet's 1,000 classes"),
        ("timm:NAME[@FILE]", "e.g. timm:convnext_base.fb_in22k_ft_in1k; needs the extra timm"),
        (
            "open_clip:NAME[@FILE]",
            "e.g. open_clip:ViT-L-14-quickgelu@FILE, zero-shot over the prompts' labels",
        ),
        ("AXIS=JUDGE,AXIS=JUDGE", "one per label column, e.g. object=JUDGE,style=JUDGE"),
    ]
    return ("judge", ""), rows


def classes(model: str) -> Table:
    """Classes that a model is told instead of texts, as concepts, with their labels.

    Raises:
        UserError: it is told texts, or can't be opened.
    """
    from erase.formats.generation import classes_of_model
    from erase.prompts.concept import CLASS
    from erase.runtime.errors import UserError

    found = classes_of_model(model)
    if found is None:
        raise UserError(f"{model} is told texts, not classes: see 'erase list concepts'.")
    rows = [(f"{CLASS}{name}", str(label)) for label, name in enumerate(found.names)]
    return ("concept", "label"), rows


CATALOGUE: Mapping[str, Callable[[], Table]] = {
    "methods": methods,
    "metrics": metrics,
    "attacks": attacks,
    "judges": judges,
    "concepts": concepts,
    "sets": sets,
    "recipes": recipes,
}
"""What ``erase list`` can list."""
CLASSES, MODEL = "classes", "mini-class"
"""What it lists of a model, and of which one by default."""
NOTES = {
    "recipes": "Times are for mask and training, and for making the training images, on one CPU "
    "thread; a recipe without a time was not timed.",
    "judges": "Without FILE the library downloads its own weights.",
}
"""Notes printed below a table."""


def listing(what: str | None = None, model: str | None = None) -> str:
    """The entries of one kind, or of each, in aligned columns, the name first; the classes of a
    model, where one is given.

    Raises:
        UserError: see ``classes``.
    """
    if what == CLASSES:
        heads, rows = classes(model or MODEL)
        return "\n".join(aligned([heads, *rows]))
    parts = []
    for name in CATALOGUE if what is None else (what,):
        heads, rows = CATALOGUE[name]()
        parts.append("\n".join([*aligned([heads, *rows]), *_note(name)]))
    return "\n\n".join(parts)


def _note(name: str) -> list[str]:
    return [f"# {NOTES[name]}"] if name in NOTES else []


def aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table, the columns one below the other."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{t:<{w}}" for t, w in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def first_line(module: Path) -> str:
    """The first line of a module's docstring; the module is read and not run."""
    text = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")
