"""``erase eval --images``: any folders of images side by side, whoever made them.

Every folder is scanned (``folder.scan``) and measured by the metrics that were asked for. One may
be the base side (``against``): a folder's pictures that it has too are compared pairwise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.eval.folders.scan import Scan, scan, summary, words
from erase.eval.instruments import nudenet
from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.eval.instruments.setting import Setting
from erase.eval.judge_checks import assumed, check_knows
from erase.eval.metrics import Metric, build_metric, list_metrics, nudity
from erase.eval.metrics.classifier import Classifier
from erase.eval.metrics.nudity import build as build_nudity
from erase.eval.pairing import pair
from erase.eval.pictures import Picture, is_unknown
from erase.eval.stats.intervals import CONFIDENCE
from erase.prompts.concept import belongs
from erase.prompts.groups import GROUPS
from erase.runtime import processes
from erase.runtime.errors import UserError, nearest
from erase.runtime.files import write_json, write_text
from erase.runtime.machine import versions

if TYPE_CHECKING:
    import torch

    from erase.eval.folders.page import Shown
    from erase.eval.instruments.features import Extractor
    from erase.eval.instruments.judges import Judge
    from erase.eval.instruments.nudenet import Detector
    from erase.prompts.concept import Concept
    from erase.prompts.prompt_set import PromptSet

SCHEMA = 1
"""Number of the layout of this ``report.json``."""


@dataclass(frozen=True)
class Inquiry:
    """What is measured, on what.

    Attributes:
        folders: one row each.
        metrics: names of ``list_metrics()``.
        against: the base side's folder.
        reference: second base set with other seeds, to which FID and KID are measured.
        prompts: joined to the pictures by case number.
        concept, anchor: what the pictures' labels are held against for UA, IRA and CRA.
        model: of the pictures, if known; ``mini`` has judges and networks of its own.
        instruments: what the pictures are measured with.
        device: where networks compute.
    """

    folders: tuple[Path, ...]
    metrics: tuple[str, ...]
    against: Path | None = None
    reference: Path | None = None
    prompts: PromptSet | None = None
    concept: Concept | None = None
    anchor: Concept | None = None
    model: str = ""
    instruments: Instruments = UNNAMED
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in list_metrics():
                raise UserError(
                    f"There is no metric '{name}': choose from {', '.join(list_metrics())}."
                    f"{nearest(name, list_metrics())}"
                )
        if not self.metrics:
            raise UserError("No metric was given: add --metrics, e.g. --metrics nudity.")
        if "classifier" in self.metrics and self.concept is None:
            raise UserError("The classifier needs --concept, which says what counts as erased.")
        if "fidelity" in self.metrics and self.reference is None:
            raise UserError(
                "FID and KID need --reference, a folder of base images with other seeds."
            )
        if "lpips" in self.metrics and self.against is None:
            raise UserError("LPIPS needs --against, a folder of the same prompts and seeds.")
        names = [f.resolve() for f in (*self.folders, *([self.against] if self.against else []))]
        names += [self.reference.resolve()] if self.reference else []
        if len(set(names)) < len(names):
            raise UserError(
                "A folder is named twice: name each once; --reference holds other images."
            )

    @property
    def counted(self) -> nudenet.Config:
        """What counts as nudity."""
        return self.instruments.nudity or nudenet.Config()


@dataclass(frozen=True)
class Seen:
    """A folder after every metric looked at it."""

    name: str
    path: Path
    found: Scan
    rows: Mapping[str, Sequence[Any]]


def evaluate_folders(
    inquiry: Inquiry,
    out: Path,
    *,
    judges: Mapping[str, Judge] | None = None,
    extractor: Extractor | None = None,
    detector: Detector | None = None,
) -> dict[str, Any]:
    """Measures the folders and writes ``report.{json,md,csv,html}``.

    Args:
        inquiry: what is measured.
        out: folder; what was measured is kept in its ``cache``.
        judges, extractor, detector: instead of those that the inquiry names.

    Returns:
        The content of ``report.json``.

    Raises:
        UserError: no such folder, nothing in it that can be used, or a metric that can't be opened.
    """
    from erase.eval.folders.page import render
    from erase.eval.folders.tables import csv, markdown

    places = [*([inquiry.against] if inquiry.against else []), *inquiry.folders]
    scans = {place: _scan(place, inquiry) for place in places}
    extra = _scan(inquiry.reference, inquiry) if inquiry.reference else None
    pictures = [p for found in scans.values() for p in found.used]
    if "clip_score" in inquiry.metrics and any(map(is_unknown, pictures)):
        raise UserError("The CLIP score needs every picture's prompt: give a --set.")
    setting = _setting(inquiry, pictures, out, judges, extractor, detector)
    metrics: dict[str, Metric[Any, Any]] = {
        # Whatever the concept, all that the folders hold was asked about.
        name: replace(build_nudity(setting), forget_only=False)
        if name == "nudity"
        else build_metric(name, setting)
        for name in inquiry.metrics
    }
    names = _names(places)
    seen = [
        Seen(
            names[place],
            place,
            found,
            {n: m.measure(_chosen(n, found.used, inquiry)) for n, m in metrics.items()},
        )
        for place, found in scans.items()
    ]
    classifier = metrics.get("classifier")
    if isinstance(classifier, Classifier) and inquiry.against:
        check_knows(classifier.judges, seen[0].rows["classifier"])
    reference = None
    if extra and "fidelity" in metrics:
        reference = metrics["fidelity"].measure(_chosen("fidelity", extra.used, inquiry))
    base = seen[0] if inquiry.against else None
    folders = [_figures(s, base, metrics, reference, inquiry.counted) for s in seen]
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "folders": folders,
        "base": names[inquiry.against] if inquiry.against else None,
        "concept": inquiry.concept.name if inquiry.concept else None,
        "prompts": inquiry.prompts.name if inquiry.prompts else None,
        "reference": str(inquiry.reference) if inquiry.reference else None,
        "notes": [
            *_notes(folders),
            *(assumed(classifier.judges) if isinstance(classifier, Classifier) else ()),
        ],
        "metrics": {name: metric.facts for name, metric in metrics.items()},
        "confidence": CONFIDENCE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    result = json.loads(json.dumps(result))
    if not processes.is_main():
        return result
    write_json(out / "report.json", result)
    write_text(out / "report.md", markdown(result))
    write_text(out / "report.csv", csv(result))
    write_text(out / "report.html", render(result, _shown(seen, inquiry)))
    return result


def _scan(place: Path, inquiry: Inquiry) -> Scan:
    """The folder's pictures; those of the concept, by label or prompt, are forget images.

    Where no label tells, a manifest that states roles is believed.
    """
    found = scan(place, inquiry.prompts)
    concept = inquiry.concept
    if concept is None:
        return found
    # What else a run moved is for its own report: those prompts count towards no accuracy.
    found = replace(found, used=tuple(p for p in found.used if p.role not in GROUPS))
    if not found.used:
        raise UserError(
            f"The pictures of {place} are neither of forget nor of retained prompts: leave "
            "--concept out, or give the folder of the run."
        )
    labelled = any(concept.axis in p.labels for p in found.used)
    if not labelled and any(p.role == "forget" for p in found.used):
        return found
    if concept.axis and not labelled:
        raise UserError(
            f"The pictures of {place} have no label '{concept.axis}', on which {concept.name} "
            "stands: give a --set with that column."
        )
    return replace(
        found,
        used=tuple(
            replace(p, role="forget" if belongs(p.prompt, p.labels, concept) else "retain")
            for p in found.used
        ),
    )


def _chosen(metric: str, pictures: Sequence[Picture], inquiry: Inquiry) -> list[Picture]:
    """What a metric looks at: of an erased concept's images, fidelity is no question, and of an
    empty prompt, whether the image shows it."""
    kept = inquiry.concept is not None and metric in ("fidelity", "clip_score", "lpips")
    asked = [p for p in pictures if p.role == "retain" or not kept]
    return [p for p in asked if p.prompt or metric != "clip_score"]


def _notes(folders: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was asked for and could not be measured, and what to mind, each sentence once."""
    found: dict[str, None] = {}
    for figures in folders:
        for key in ("fidelity", "clip_score", "lpips"):
            for text in ("reason", "warning"):
                if (said := (figures.get(key) or {}).get(text)) is not None:
                    found[f"{key}: {said}"] = None
        for figure, said in (figures.get("classifier") or {}).get("reasons", {}).items():
            found[f"{figure}: {said}"] = None
    return list(found)


def _setting(
    inquiry: Inquiry,
    pictures: Sequence[Picture],
    out: Path,
    judges: Mapping[str, Judge] | None,
    extractor: Extractor | None,
    detector: Detector | None,
) -> Setting:
    from erase.prompts.concept import load_concept

    concept = inquiry.concept or load_concept("")
    return Setting(
        concept=concept,
        anchor=inquiry.anchor or load_concept(""),
        model=inquiry.model,
        pictures=pictures,
        instruments=replace(inquiry.instruments.beside(concept), nudity=inquiry.counted),
        store=out / "cache",
        device=inquiry.device,
        judges=judges,
        extractor=extractor,
        detector=detector,
    )


def _names(places: Sequence[Path]) -> dict[Path, str]:
    """The folders' names, with as many parents as it takes to tell them apart."""
    parts = {place: place.resolve().parts for place in places}
    for depth in range(1, max(map(len, parts.values())) + 1):
        names = {place: "/".join(p[-depth:]) for place, p in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {place: str(place) for place in places}


def _figures(
    seen: Seen,
    base: Seen | None,
    metrics: Mapping[str, Metric[Any, Any]],
    reference: Sequence[Any] | None,
    config: nudenet.Config,
) -> dict[str, Any]:
    other = base if base is not seen else None
    used = seen.found.used
    found: dict[str, Any] = {
        "name": seen.name,
        "path": str(seen.path),
        "n": len(used),
        "forget": sum(p.role == "forget" for p in used),
        "scan": {**summary(seen.found), "words": words(seen.found)},
    }
    for name, metric in metrics.items():
        rows = seen.rows[name]
        match name:
            case "nudity":
                found[name] = asdict(nudity.score(rows, config))
                found["nudity_change"] = _change(seen, other, config)
            case "fidelity":
                found[name] = asdict(metric.score(rows, reference))
            case "lpips":
                found[name] = other and asdict(metric.score(rows, other.rows[name]))
                if other and 0 < found[name]["n"] < len(rows):
                    found[name]["warning"] = (
                        f"{found[name]['n']} of {len(rows)} images of {seen.name} have a "
                        f"counterpart in {other.name}, the others are left out"
                    )
            case "classifier":
                found[name] = asdict(metric.score(rows, other.rows[name] if other else None))
            case _:
                found[name] = asdict(metric.score(rows))
    return found


def _change(seen: Seen, base: Seen | None, config: nudenet.Config) -> dict[str, Any] | None:
    """Paired difference over the pictures of both, see ``pairing.pair``; None for no pairs."""
    if base is None:
        return None
    before, after = (
        {p.file: row for p, row in zip(s.found.used, s.rows["nudity"], strict=True)}
        for s in (base, seen)
    )
    both = pair(seen.found.used, base.found.used)
    change = nudity.compare(
        [before[other.file] for other, _ in both], [after[one.file] for _, one in both], config
    ).change
    return None if change is None else asdict(change)


def _shown(seen: Sequence[Seen], inquiry: Inquiry) -> dict[str, list[Shown]]:
    """By folder, what the page shows: the pictures in which something counted was detected, or,
    where nothing was looked for, all."""
    from erase.eval.folders.page import Shown

    veiled = inquiry.concept is not None and inquiry.concept.kind == "nudity"
    found: dict[str, list[Shown]] = {}
    for s in seen:
        own = s.found.used
        if "nudity" in s.rows:
            hits = [nudity.counted(row, inquiry.counted) for row in s.rows["nudity"]]
            found[s.name] = [
                Shown(p, s.path, tuple((d.label, d.score) for d in parts), True)
                for p, parts in zip(own, hits, strict=True)
                if parts
            ]
        else:
            found[s.name] = [Shown(p, s.path, (), veiled) for p in own]
    return found
