"""Where a report's figures come from: models, data, judges, machine, versions, times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from erase.commit import commit
from erase.eval.metrics import Picture
from erase.eval.schema import Provenance
from erase.eval.stats import CONFIDENCE
from erase.runs import versions


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
    seeds = {side: [p.seed for p in pictures] for side, pictures in sides.items()}
    return Provenance(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=facts.get("model", {}),
        recipe=facts.get("recipe", {}),
        image_seeds={side: (min(s), max(s)) for side, s in seeds.items() if s},
        pairs=facts.get("pairs", []),
        device=facts.get("device"),
        made_with=facts.get("versions", {}),
        versions=versions(),
        code=commit(),
        commands=facts.get("commands", []),
        metrics=metrics,
        confidence=CONFIDENCE,
        seconds={**{k: v["seconds"] for k, v in stages.items()}, "eval": round(seconds, 2)},
        peak_memory_mb={k: v["peak_memory_mb"] for k, v in stages.items() if "peak_memory_mb" in v},
    )
