"""The gap to exact unlearning: a run's figures beside those of a model that never knew the concept.

Such a model is trained again without the concept, so that its figures are what perfect erasing
would give. They are measured once, on the same prompts, seeds, sampler and judges, and kept as
``exact/NAME.json`` beside the bundled weights. ``python -m erase.eval.report.exact RUN NAME``
writes that file from a run folder whose erased model is the one that never knew it (``erase
compare --include``).
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from erase.eval.pages.phrases import SPACE, percent, points
from erase.eval.pictures import Picture, read_pictures
from erase.eval.report.result import load_report
from erase.eval.stats.intervals import RESAMPLES
from erase.prompts.groups import GROUPS
from erase.runtime.errors import UserError, reason
from erase.runtime.files import bundled, digest, write_json

SHARES = ("ua", "ira", "cra")
SAMPLER = ("sampler", "sampling_steps", "guidance_scale", "size")
PLACE = "exact"
SEED = 0
"""Of the resampling."""


@dataclass(frozen=True)
class Exact:
    """How far a run is from exact unlearning.

    Attributes:
        model: that never knew the concept.
        never: its figures by key, as JSON: ``{value, n, low, high}`` of the shares, ``{value}`` of
            the first distance of the retained images, which is ``name``.
        name: of that distance.
        gaps: this model's figures minus its, by key.
        gap: mean of the shares' absolute gaps.
        became: recognised label -> forget images of the model that never knew it.
        variation: total variation between what both show for the forget prompts, in [0, 1].
        chance: what it would be on average if both drew from one distribution.
    """

    model: str
    never: Mapping[str, Any]
    name: str | None
    gaps: Mapping[str, float]
    gap: float | None
    became: Mapping[str, int]
    variation: float
    chance: float


def asked(
    pictures: Sequence[Picture],
    recipe: Mapping[str, Any],
    base: Mapping[str, Any] | None,
    metrics: Mapping[str, Mapping[str, Any]],
) -> str:
    """Hash of all that two models' figures have to share, to be held against each other.

    Args:
        pictures: of the forget and the retained prompts.
        recipe: flat, which says how images are sampled.
        base: hashes of the base model's components.
        metrics: by metric, what its figures depend on.
    """
    judges = metrics.get("classifier", {}).get("judges") or {}
    features = metrics.get("fidelity", {}).get("extractor") or {}
    return digest(
        [
            [[p.prompt, p.seed, p.role, dict(p.labels)] for p in pictures],
            [recipe.get(key) for key in SAMPLER],
            base,
            {axis: [own.get("sha256"), own["labels"]] for axis, own in judges.items()},
            features.get("sha256") or features.get("name"),
        ]
    )


def exact(
    key: str,
    shares: Mapping[str, float | None],
    distance: float | None,
    became: Mapping[str, int],
) -> Exact | None:
    """The gap; None where no model that never knew the concept was measured alike.

    Args:
        key: see ``asked``.
        shares: UA, IRA and CRA of the erased model.
        distance: of its retained images to the second base set.
        became: recognised label -> its forget images.
    """
    found = next((f for f in references() if f["asked"] == key), None)
    if found is None or not became:
        return None
    never = found["figures"]
    gaps = {
        k: value - never[k]["value"]
        for k, value in {**shares, "distance": distance}.items()
        if value is not None and never.get(k)
    }
    told = [abs(gaps[k]) for k in SHARES if k in gaps]
    return Exact(
        model=found["model"],
        never=never,
        name=found["distance"],
        gaps=gaps,
        gap=sum(told) / len(told) if told else None,
        became=found["became"],
        variation=variation(became, found["became"]),
        chance=by_chance(became, found["became"]),
    )


def references() -> list[dict[str, Any]]:
    """What was measured on the models that never knew a concept.

    Raises:
        UserError: a file can't be read.
    """
    found = []
    for file in sorted(bundled(PLACE).glob("*.json")):
        try:
            one = json.loads(file.read_text(encoding="utf-8"))
            found.append({k: one[k] for k in ("asked", "model", "figures", "distance", "became")})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{file} can't be read ({reason(error)}): install the package again."
            ) from error
    return found


def variation(p: Mapping[str, int], q: Mapping[str, int]) -> float:
    """Total variation ½ Σ|p_k - q_k| of two counts of labels, as shares."""
    a, b = sum(p.values()), sum(q.values())
    return 0.5 * sum(abs(p.get(k, 0) / a - q.get(k, 0) / b) for k in {*p, *q})


def by_chance(p: Mapping[str, int], q: Mapping[str, int]) -> float:
    """Mean total variation of two samples as large as these, drawn from what both have seen."""
    labels = sorted({*p, *q})
    pooled = np.array([p.get(k, 0) + q.get(k, 0) for k in labels], float)
    g = np.random.default_rng(SEED)
    sizes = sum(p.values()), sum(q.values())
    drawn = [g.multinomial(n, pooled / pooled.sum(), RESAMPLES) / n for n in sizes]
    return float(0.5 * np.abs(drawn[0] - drawn[1]).sum(1).mean())


def sentences(found: Mapping[str, Any] | None) -> list[str]:
    """The gap in words; none where nothing was measured alike.

    Args:
        found: an ``Exact`` as JSON.
    """
    if found is None or found["gap"] is None:
        return []
    each = ", ".join(
        f"{k.upper()} {points(found['gaps'][k])}" for k in SHARES if k in found["gaps"]
    )
    return [
        f"Against {found['model']}, which never knew it: {each} points; gap to exact unlearning "
        f"{100 * found['gap']:.1f} points on average. What the forget prompts show differs by "
        f"{percent(found['variation'])} (total variation; {percent(found['chance'])} by chance "
        f"alone).".replace(" %", f"{SPACE}%")
    ]


def write(run: Path, name: str, overwrite: bool = False) -> Path:
    """Keeps the figures of a run whose erased model never knew the concept.

    Args:
        run: a finished run folder.
        name: of the model, as ``never-church``.
        overwrite: replace the figures of that name.

    Raises:
        UserError: the run has no report or no figures of judges, or there are figures of that name.
    """
    file = bundled(PLACE) / f"{name}.json"
    if file.exists() and not overwrite:
        raise UserError(f"{file} exists: choose another name, or add --overwrite.")
    report = load_report(run)
    told = report["provenance"]
    pictures = [
        picture
        for manifest in sorted((run / "eval" / "base").glob("*/manifest.jsonl"))
        for picture in read_pictures(manifest.parent)
        if picture.role not in GROUPS
    ]
    key = asked(pictures, told["recipe"], told["model"].get("fingerprint"), told["metrics"])
    summary, first = report["summary"]["erased"], (report["fidelity"] or [None])[0]
    # A model that is told classes has one axis, and no CRA.
    figures = {k: summary[k] for k in SHARES if summary[k] is not None}
    if "ua" not in figures or not report["became"]["erased"]:
        raise UserError(f"{run} has no figures of a judge: evaluate it with one.")
    if first is not None:
        figures["distance"] = {"value": first["erased"], "n": first["n"]}
    facts = {
        "model": name,
        "concept": report["concept"]["name"],
        "asked": key,
        "figures": figures,
        "distance": first and first["name"],
        "became": report["became"]["erased"],
        "images": report["images"]["erased"],
    }
    write_json(file, facts)
    return file


if __name__ == "__main__":
    parser = ArgumentParser(prog="python -m erase.eval.report.exact", description=write.__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    parser.add_argument("--overwrite", action="store_true")
    given = parser.parse_args()
    try:
        print(write(given.run, given.name, given.overwrite))
    except (UserError, OSError) as error:
        print(f"erase: {error}", file=sys.stderr)
        sys.exit(2)
