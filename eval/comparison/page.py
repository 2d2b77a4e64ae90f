"""``compare.html``: one self-contained page of a comparison."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from erase.eval.comparison.columns import MADE, UNPAIRED, columns, harmonic, unmeasured
from erase.eval.comparison.lead import FEW, RULE, SHARES, few_told, lead
from erase.eval.comparison.recovery import ABOUT, WORST
from erase.eval.comparison.tables import (
    RECIPE,
    attack_differences,
    attack_table,
    differences,
    figures,
)
from erase.eval.comparison.told import networks, warnings
from erase.eval.figure import CellColumn
from erase.eval.pages import phrases, plots, table
from erase.eval.pages.html import data_uri, spread, template
from erase.eval.pictures import Picture, read_pictures
from erase.eval.screen import screen_of

CONCEPTS_SHOWN, FORGET_SHOWN, RETAIN_SHOWN = 5, 4, 4
"""Most concepts with a grid, and pictures in each of its rows."""
SIZES = [table.Column(key, key) for key in ("concepts", "seeds", "cells")]


@dataclass(frozen=True)
class Shot:
    """One picture of a grid: a data URI, and its prompt and seed."""

    uri: str
    title: str


@dataclass(frozen=True)
class Grid:
    """Same prompts and seeds, a row for the base and each recipe.

    Attributes:
        concept: what was erased.
        anchor: what should stand there.
        rows: name of the model and its pictures, forget prompts first; None where it has none of a
            prompt and seed that the base has.
        forget: how many of each row's pictures are of forget prompts.
        veiled: blurred until clicked.
    """

    concept: str
    anchor: str | None
    rows: Sequence[tuple[str, Sequence[Shot | None]]]
    forget: int
    veiled: bool


def render(
    result: Mapping[str, Any], folders: Mapping[tuple[str, str, int], Path], command: str
) -> str:
    """The page as HTML.

    Args:
        result: as in ``compare.json``.
        folders: run folders of the cells, by recipe, concept and seed.
        command: that makes the comparison again.
    """
    every = columns(result)
    seen, made = ([c for c in every if (c.key in MADE) is making] for making in (False, True))
    paired = [c for c in every if c.key not in UNPAIRED]
    lines = (result["base_row"], *result["rows"])
    html: str = template("compare.html.j2").render(
        r=result,
        screen=screen_of(result["model"]),
        seen=[RECIPE, *seen],
        seen_rows=_lines(lines, seen),
        made=[RECIPE, *made, *SIZES],
        made_rows=_lines(result["rows"], made),
        paired=[CellColumn("against", "against"), *paired],
        lead=lead(result),
        rule=RULE,
        trade=_trade(result),
        attacks=attack_table(result),
        attack_note=ABOUT,
        kept=_kept(result),
        pairs=differences(result, paired),
        attack_pairs=attack_differences(result),
        forests=_forests(result),
        maps=heat_maps(result),
        grids=grids(result, folders),
        sampling=_sampling(result),
        unfinished=phrases.missing(result["unfinished"]) if result["unfinished"] else "",
        mixed=mixed(result["cells"]),
        notes=unmeasured(result) + few_told(result),
        warnings=warnings(result["cells"]),
        networks=networks(result["cells"]),
        versions=versions(result["cells"]),
        others=phrases.by_recipe(result["others"]),
        command=shown_paths(command),
    )
    return html


def _lines(rows: Sequence[Mapping[str, Any]], shown: Sequence[CellColumn]) -> list[dict[str, Any]]:
    """The rows of a table; the base model and the first recipe stand apart."""
    first = next((r["recipe"] for r in rows if r["method"]), None)
    return [
        {
            **figures(row, shown),
            "css": "base" if not row["method"] else "first" if row["recipe"] == first else "",
            "concepts": row["concepts"],
            "seeds": len(row["seeds"]),
            "cells": row["cells"],
        }
        for row in rows
    ]


def _trade(result: Mapping[str, Any]) -> Markup | None:
    if not any(r["figures"]["ua"] and r["figures"]["ira"] for r in result["rows"]):
        return None
    return Markup(plots.trade_off(result["rows"]))


def _kept(result: Mapping[str, Any]) -> Markup | None:
    """Worst recovery against the harmonic mean of the recipes that were attacked."""
    if not any(r["figures"].get(WORST.key) for r in result["rows"]):
        return None
    return Markup(plots.trade_off(result["rows"], plots.HARMONIC, plots.WORST, "kept"))


def _forests(result: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    titles = {"harmonic": "Harmonic mean", "ua": "UA"}
    return [
        (title, Markup(plots.differences(result["paired"], key, FEW)))
        for key, title in titles.items()
        if any(p[key] and p[key]["groups"] > 1 for p in result["paired"])
    ]


def shown_paths(command: str) -> str:
    """A command without what is the machine's own: paths are told from here or from the user's
    home, others by their last part."""
    here, home = f"{Path.cwd()}/", f"{Path.home()}/"
    command = command.replace(here, "").replace(home, "~/")
    return re.sub(r"(?<=[\s=@'\"])/(?:[^\s=@'\"/]+/)+", "", command)


def heat_maps(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Per figure, recipes by concepts; a cell is the mean over its seeds, or None."""
    concepts = sorted({c["concept"] for c in result["cells"]})
    names = [r["recipe"] for r in result["rows"]]
    found = []
    for key, title in (("harmonic", "Harmonic mean"), *SHARES):
        rows = []
        for name in names:
            row: list[float | None] = []
            for concept in concepts:
                own = [
                    value
                    for c in result["cells"]
                    if (c["recipe"], c["concept"]) == (name, concept)
                    and (value := _value(c, key)) is not None
                ]
                row.append(sum(own) / len(own) if own else None)
            rows.append((name, row))
        if any(v is not None for _, row in rows for v in row):
            short = [c.rsplit("/", 1)[-1] for c in concepts]
            found.append({"title": title, "concepts": short, "rows": rows})
    return found


def _value(cell: Mapping[str, Any], key: str) -> float | None:
    if key == "harmonic":
        return harmonic(cell)
    found = cell["summary"]["erased"][key]
    return None if found is None else float(found["value"])


def grids(result: Mapping[str, Any], folders: Mapping[tuple[str, str, int], Path]) -> list[Grid]:
    """Pictures of some concepts, at the lowest seed that a recipe has there."""
    names = [r["recipe"] for r in result["rows"]]
    concepts = sorted({c["concept"] for c in result["cells"]})
    found = []
    for concept in spread(concepts, CONCEPTS_SHOWN):
        own = [c for c in result["cells"] if c["concept"] == concept]
        places = {}
        for name in names:
            seeds = sorted(c["seed"] for c in own if c["recipe"] == name)
            place = folders.get((name, concept, seeds[0])) if seeds else None
            if place is not None and (place / "eval").is_dir():
                places[name] = place / "eval"
        if not places:
            continue
        base = _pictures(next(iter(places.values())) / "base")
        chosen = _choose(base)
        rows = [("base model", _shots(base, chosen))]
        rows += [(name, _shots(_pictures(p / "erased"), chosen)) for name, p in places.items()]
        forget = sum(base[key].role == "forget" for key in chosen)
        # Cells don't say which images were flagged.
        veiled = any(c.get("kind") == "nudity" or c.get("nudity") for c in own)
        found.append(Grid(concept, own[0]["anchor"], rows, forget, veiled))
    return found


def _pictures(side: Path) -> dict[tuple[str, str], Picture]:
    return {
        (p.set, p.file.name): p
        for manifest in sorted(side.glob("*/manifest.jsonl"))
        for p in read_pictures(manifest.parent)
    }


def _choose(base: Mapping[tuple[str, str], Picture]) -> list[tuple[str, str]]:
    forget = [k for k, p in base.items() if p.role == "forget"]
    kept = [k for k, p in base.items() if p.role == "retain"]
    first = spread(forget, FORGET_SHOWN)

    def kind(key: tuple[str, str]) -> str:
        return next(iter(base[key].labels.values()), "")

    return [*first, *spread(sorted(kept, key=kind), RETAIN_SHOWN)]


def _shots(
    pictures: Mapping[tuple[str, str], Picture], chosen: Sequence[tuple[str, str]]
) -> list[Shot | None]:
    return [
        Shot(data_uri(found.file), f"{found.prompt} (seed {found.seed})") if found else None
        for found in map(pictures.get, chosen)
    ]


def mixed(cells: Sequence[Mapping[str, Any]]) -> str:
    """Says so where the cells were not made alike; empty where they were."""
    devices = sorted({c["device"] for c in cells})
    threads = sorted({c["threads"] for c in cells if c.get("threads")})
    differing = [", ".join(devices)] if len(devices) > 1 else []
    if len(threads) > 1:
        differing.append(f"{phrases.listed([str(n) for n in threads])} threads")
    if not differing:
        return ""
    return (
        f"The cells were made on different machines or settings ({'; '.join(differing)}), so the "
        "rows’ seconds and memory can’t be compared."
    )


def versions(cells: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """By package, the versions that cells were made with."""
    found: dict[str, set[str]] = {}
    for cell in cells:
        for name, version in cell["versions"].items():
            found.setdefault(name, set()).add(version)
    return {name: " or ".join(sorted(values)) for name, values in found.items()}


def _sampling(result: Mapping[str, Any]) -> Mapping[str, Any]:
    settings: Mapping[str, Any] = result["rows"][0]["settings"]
    return settings
