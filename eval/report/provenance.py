"""Where a report's figures come from: models, data, judges, machine, versions, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from erase.eval.pictures import Picture
from erase.eval.report.schema import Provenance
from erase.eval.stats.intervals import CONFIDENCE
from erase.runtime.commit import commit
from erase.runtime.machine import versions


def provenance(
    facts: Mapping[str, Any],
    sides: Mapping[str, Sequence[Picture]],
    metrics: Mapping[str, Mapping[str, Any]],
    seconds: float,
) -> Provenance:
    """Collects it.

    Args:
        facts: of ``run.json``.
        sides: the images by side.
        metrics: by metric, what its figures depend on.
        seconds: of the evaluation.
    """
    stages = {k: v for k, v in facts.get("stages", {}).items() if k != "eval"}
    # The run's own facts are those of its last sitting, which may only have measured.
    made = stages.get("train", {}).get("made") or facts
    seeds = {side: [p.seed for p in pictures] for side, pictures in sides.items()}
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=facts.get("model", {}),
        recipe=facts.get("recipe", {}),
        image_seeds={side: (min(s), max(s)) for side, s in seeds.items() if s},
        pairs=facts.get("pairs", []),
        own_images=facts.get("own_images", {}),
        device=made.get("device"),
        made_with=made.get("versions", {}),
        versions=versions(),
        code=commit(),
        commands=facts.get("commands", []),
        metrics=metrics,
        confidence=CONFIDENCE,
        seconds={**{k: v["seconds"] for k, v in stages.items()}, "eval": round(seconds, 2)},
        peak_memory_mb={k: v["peak_memory_mb"] for k, v in stages.items() if "peak_memory_mb" in v},
    )


Fact = tuple[str, str]


def told(report: Mapping[str, Any]) -> list[tuple[str, list[Fact]]]:
    """A report's provenance in titled groups of names and values, as the page prints it."""
    made = report["provenance"]
    package = made["versions"].get("erase-diffusion", "")
    return [
        ("Model", [("base", str(report["run"]["model"])), *_hashes(made["model"])]),
        ("Data", _data(report)),
        ("Judges and networks", _instruments(report)),
        ("Machine", [("device", str(made["device"]))] if made["device"] else []),
        (
            "Code",
            [
                ("commit", made["code"] or f"unknown (package version {package})"),
                *made["versions"].items(),
            ],
        ),
        ("Times", [("evaluated", made["created"]), *_times(made)]),
    ]


def _hashes(model: Mapping[str, Any]) -> list[Fact]:
    return [(part, f"sha256 {hash[:16]}") for part, hash in model.get("fingerprint", {}).items()]


def _data(report: Mapping[str, Any]) -> list[Fact]:
    names = {"base": "before", "base2": "second base set", "erased": "after"}
    found = [("training pairs", str(len(report["provenance"]["pairs"])))]
    for role, count in report["provenance"].get("own_images", {}).items():
        found.append((f"{role} images trained on", f"{count} of the user's own"))
    for side, counts in report["images"].items():
        roles = ", ".join(f"{n} {role}" for role, n in counts.items() if n)
        found.append((names[side], roles or "no images"))
    for side, (low, high) in report["provenance"]["image_seeds"].items():
        found.append((f"seeds, {names[side]}", f"{low} to {high}"))
    return found


def _instruments(report: Mapping[str, Any]) -> list[Fact]:
    """What measured, with the start of its weights' hash where that is known."""
    lines = []
    for metric, facts in report["provenance"]["metrics"].items():
        own = [row for row in report["figures"] if row["metric"] == metric]
        name = ", ".join(dict.fromkeys(row["title"].partition("[")[0] for row in own))
        judges = {f"judge by {axis}": judge for axis, judge in facts.get("judges", {}).items()}
        for title, one in (judges or {name: facts.get("extractor") or facts}).items():
            keys = ("spec", "model", "name", "detector")
            spec = next((str(one[key]) for key in keys if one.get(key)), None)
            if spec is not None:
                hash = str(one.get("sha256") or one.get("weights") or "")
                lines.append((title, f"{spec}, sha256 {hash[:16]}" if len(hash) == 64 else spec))
    return lines


def _times(made: Mapping[str, Any]) -> list[Fact]:
    """Seconds and peak memory by stage."""
    peaks = made["peak_memory_mb"]
    return [
        (stage, f"{seconds:.1f} s" + (f", peak {peaks[stage]} MiB" if stage in peaks else ""))
        for stage, seconds in made["seconds"].items()
    ]
