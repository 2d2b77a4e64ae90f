"""The model card: what was erased from which base, how, and how well it went."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from erase.eval.pages.phrases import interval, listed, percent, words
from erase.formats.layouts import STOCK, Plain
from erase.methods import list_methods, load_method
from erase.prompts.concept import CLASS, own_name
from erase.runtime.errors import UserError
from erase.runtime.files import write_text

if TYPE_CHECKING:
    from erase.formats.base import Base

LICENCE_KEYS = ("license", "license_name", "license_link")
FOLDER = "path/to/this/folder"
"""What the model is opened by, until it has a name on the hub."""
SIDES = ("base", "erased")
FIGURES = {
    "ua": "UA: forget-prompt images not recognised as the concept, higher is better",
    "ira": "IRA: retained images still recognised on the concept's own axis, higher is better",
    "cra": "CRA: retained images still recognised on the other axis, higher is better",
}
ANCHOR = "became_anchor"
BECAME = "Became the anchor: forget-prompt images recognised as it, higher is better"
NUDITY = "Nudity: images in which it is detected, lower is better"


def write_card(folder: Path, run: Path, base: Base) -> None:
    """Writes ``README.md`` into a model folder.

    Args:
        folder: the erased model's.
        run: the run folder; figures are stated where its report.json exists.
        base: the model before.

    Raises:
        UserError: ``run.json`` or ``report.json`` can't be read.
    """
    from erase.formats.folder import index_of
    from erase.formats.usage import usage

    facts = _read(run / "run.json")
    report = run / "report.json"
    found = _read(report) if report.exists() else {}
    # Of several concepts, each has a report of its own.
    reports = {c["concept"]["name"]: c for c in found.get("concepts", ())} or {"": found}
    erased = [name.removeprefix(CLASS) for name in str(facts.get("concept")).split(" + ")]
    here = index_of(folder) is not None
    use = usage(folder, FOLDER, facts.get("recipe", {}), erased) if here else STOCK
    write_text(folder / "README.md", card(facts, base.title, licence(base), reports, base.hub, use))


def _read(file: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} can't be read ({error}): run 'erase run' first.") from error
    return found


def licence(base: Base) -> dict[str, str]:
    """The licence entries in the front matter of a base's card; {} where it has none."""
    file = base.path / "README.md"
    if not file.is_file():
        return {}
    front = _front(file.read_text("utf-8", "replace"))
    return {k: v for k, v in front.items() if k in LICENCE_KEYS}


def _front(text: str) -> dict[str, str]:
    """The entries of a card's front matter that stand in one line."""
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    lines = front[1].splitlines() if front else []
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {k: v.strip() for k, v in pairs if v.strip()}


def card(
    facts: Mapping[str, Any],
    base: str,
    terms: Mapping[str, str],
    reports: Mapping[str, Mapping[str, Any]],
    hub: bool = False,
    use: Plain = STOCK,
) -> str:
    """The card's text, with the front matter that the hub reads.

    Args:
        facts: as in ``run.json``: concept, anchor, seed, recipe.
        base: name of the base model.
        terms: licence entries of the base's card.
        reports: as in ``report.json``, by concept; {} before an evaluation.
        hub: whether ``base`` is a hub id.
        use: how the model is used without this package.
    """
    recipe = facts.get("recipe", {})
    method = recipe.get("method", "unknown")
    concept, anchor = (_said(str(facts.get(key))) for key in ("concept", "anchor"))
    front = [f"{k}: {v}" for k, v in terms.items()]
    if hub:
        front += _lineage(base)
    front += ["library_name: diffusers", f"pipeline_tag: {use.task}"]
    front += [f"tags: [{use.tag}, concept-erasure, {method}]"]
    stated = terms.get("license_link") or terms.get("license_name") or terms.get("license")
    how, still = f"with {method}", _unmoved(method)
    if method == "combined":
        how = f"by adding up the edits of the runs {recipe.get('runs')}"
        still = "Weights that none of them moved equal the base model's."
    aim = ""
    if method in list_methods() and load_method(method).NEEDS.anchor:
        given = _quoted(anchor) if anchor else "what the empty prompt gives"
        aim = f", so that prompts that name it give {given} instead"
    text = [
        "---",
        *front,
        "---",
        f"# {base}, made to forget {_quoted(concept)}",
        "",
        f"`{base}` was made to forget {_quoted(concept)} {how}{aim}. Whether it has is told by the "
        "figures below.",
        *_own_images(facts),
        f"{still} Which weights were moved, and how far, anybody can tell by subtracting the "
        "base's, in whatever format the edit is passed on.",
        "",
        "```python",
        *(line.replace("{folder}", FOLDER) for line in use.code),
        "```",
        "",
        *(_as_lora(method) if use.exchanged else ()),
        "## Figures",
        "",
        *(line for name, report in reports.items() for line in _figures(report, name)),
        "",
        "## Limits",
        "",
        "Erasure is not deletion: other wordings, languages or a fine-tune may bring the concept "
        "back. One seed is one sample; repeat with others before relying on the figures.",
        "",
        *(_attacks(report, name) for name, report in reports.items() if report),
        "",
        "## How it was made",
        "",
        f"Seed {facts.get('seed')}, made with erase-diffusion.",
        "",
        "| setting | value |",
        "|---|---|",
        *(f"| {key} | {_cell(value)} |" for key, value in sorted(recipe.items())),
        "",
        "## Licence",
        "",
        f"As for the base model: {stated}." if stated else "See the base model's licence.",
        "",
    ]
    return "\n".join(text)


def _of_text(method: str) -> bool:
    return method in list_methods() and load_method(method).NEEDS.part == "text_encoder"


def _as_lora(method: str) -> list[str]:
    """What the edit loses as an adapter, which holds no text encoder."""
    if _of_text(method):
        return []
    return [
        "## As a LoRA",
        "",
        "`erase export RUN FILE.safetensors --format lora` writes the edit for programs that load "
        "adapters. A LoRA approximates it: biases and norms are left out, and every weight of a "
        "changed layer moves, so that weights outside the mask no longer equal the base's. The "
        "figures below are not the LoRA's, nor those of a strength below 1, at which the concept "
        "may come back: `erase compare --include NAME=FILE@STRENGTH` measures them. `--format "
        "lycoris` and `--format delta` carry the whole edit and move nothing else.",
        "",
    ]


def _unmoved(method: str) -> str:
    """What of the model is the base's."""
    if _of_text(method):
        return (
            "Only weights of the text encoder were changed: with the base model's text encoder, "
            "which some tools load on their own, it makes the concept again."
        )
    return "Weights outside the mask equal the base model's."


def _said(names: str) -> str:
    """Concepts as sentences call them: without family or kind; free text as it is."""
    own = (own_name(n) if n.startswith(CLASS) or " " not in n else n for n in names.split(" + "))
    return " + ".join(n if " " in n else words(n) for n in own)


def _own_images(facts: Mapping[str, Any]) -> list[str]:
    """How many of the user's images it was trained on."""
    counts = [f"{n} {role}" for role, n in facts.get("own_images", {}).items()]
    if not counts:
        return []
    return [f"It was trained on images of the user's own ({listed(counts)}), not the base's."]


def _quoted(text: str) -> str:
    return f"“{text}”"


def _cell(value: object) -> str:
    return "" if value is None else str(value).replace("|", "\\|")


def _figures(report: Mapping[str, Any], name: str) -> list[str]:
    summary = report.get("summary")
    if not summary:
        return ["Not evaluated."]
    said = (report.get("conclusion") or {}).get("words", ())
    lines = [*(f"- {sentence}" for sentence in said), *([""] if said else [])]
    lines += [f"| {name} | base | erased |", "|---|---|---|"]
    rows = {FIGURES[k]: [(summary.get(side) or {}).get(k) for side in SIDES] for k in FIGURES}
    if report.get("nudity"):
        rows[NUDITY] = [report["nudity"]["compared"][side]["share"] for side in SIDES]
    became = {f["side"]: f for f in report.get("figures", ()) if f["key"] == ANCHOR}
    if any(own["value"] is not None for own in became.values()):
        rows[BECAME] = [became.get(side) for side in SIDES]
    lines += [f"| {meaning} | {' | '.join(map(_figure, own))} |" for meaning, own in rows.items()]
    return [*lines, *([""] if name else [])]


def _attacks(report: Mapping[str, Any], name: str) -> str:
    """What attacks found, in a line."""
    found = report.get("recovery")
    if not found:
        return f"- No attack was tried{f' for {name}' if name else ''}."
    told = " ".join([*found["sentences"], found["floor"]])
    about = f"{name}, budget" if name else "budget"
    return f"- Attacked ({about} {found['facts']['budget']}): {found['verdict']}. {told}"


def _figure(found: Mapping[str, Any] | None) -> str:
    if not isinstance(found, Mapping) or found.get("value") is None:
        return "not measured"
    text = percent(found["value"])
    if found.get("low") is not None and found.get("high") is not None:
        text += f" ({interval(found)}, n = {found['n']})"
    return text


def for_hub(
    text: str, repo: str, base: str | None = None, terms: Mapping[str, str] = MappingProxyType({})
) -> str:
    """A card for those who find the model on the hub.

    Args:
        text: of the card.
        repo: the model's name there, ``OWNER/NAME``.
        base: hub id of the base where the card names none.
        terms: licence entries of that base's card, for a card without any.
    """
    if base is not None:
        stated = _front(text).keys() & {*LICENCE_KEYS}
        told = [] if stated else [f"{key}: {value}" for key, value in terms.items()]
        text = text.replace("---\n", "\n".join(["---", *told, *_lineage(base), ""]), 1)
    return text.replace(FOLDER, repo)


def base_of(text: str) -> str | None:
    """The hub id of the base in a card's front matter; None where it names none."""
    return _front(text).get("base_model")


def _lineage(base: str) -> list[str]:
    """What the hub draws its tree of models from."""
    return [f"base_model: {base}", "base_model_relation: finetune"]
