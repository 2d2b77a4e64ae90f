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

from erase.eval.figure import Figure
from erase.eval.folders.entries import Defect, Remark
from erase.eval.folders.scan import Scan, scan, summary, words
from erase.eval.instruments import nudenet
from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.eval.instruments.setting import Setting
from erase.eval.judge_checks import assumed, check_knows
from erase.eval.metrics import (
    Metric,
    Sectioned,
    Seen,
    against,
    beyond,
    build_metric,
    by_group,
    needs,
    nudity,
    ranked,
)
from erase.eval.metrics.classifier import Classifier
from erase.eval.pictures import Picture
from erase.eval.stats.intervals import CONFIDENCE
from erase.prompts.concept import belongs
from erase.prompts.groups import GROUPS
from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.files import write_json, write_text
from erase.runtime.machine import versions
from erase.runtime.places import without_places

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
        if not self.metrics:
            raise UserError("No metric was given: add --metrics, e.g. --metrics nudity.")
        for name in self.metrics:
            for need, sentence in needs(name).items():
                if getattr(self, need) is None:
                    raise UserError(sentence)
        names = [f.resolve() for f in (*self.folders, *([self.against] if self.against else []))]
        names += [self.reference.resolve()] if self.reference else []
        if len(set(names)) < len(names):
            raise UserError(
                "A folder was given twice: give each once; --reference must hold other images."
            )
        for inner, outer in ((a, b) for a in names for b in a.parents if b in names):
            raise UserError(
                f"{inner} lies in {outer}, so that its pictures would count for both: move it, or "
                "give another folder."
            )

    @property
    def counted(self) -> nudenet.Config:
        """What counts as nudity."""
        return self.instruments.nudity or nudenet.Config()


@dataclass(frozen=True)
class Folder:
    """A folder after every metric looked at it."""

    name: str
    path: Path
    found: Scan
    seen: Mapping[str, Seen]


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
    places = [*([inquiry.against] if inquiry.against else []), *inquiry.folders]
    scans = {place: _scan(place, inquiry) for place in places}
    extra = _scan(inquiry.reference, inquiry) if inquiry.reference else None
    pictures = [p for found in scans.values() for p in found.used]
    setting = _setting(inquiry, pictures, out, judges, extractor, detector)
    order = [name for name in ranked() if name in inquiry.metrics]
    metrics = {name: build_metric(name, setting) for name in order}
    base = scans[inquiry.against].used if inquiry.against else ()
    names = _names(places)
    seen = [
        Folder(
            names[place],
            place,
            found,
            {
                name: _look(metric, found.used, () if found.used is base else base, inquiry)
                for name, metric in metrics.items()
            },
        )
        for place, found in scans.items()
    ]
    classifier = metrics.get("classifier")
    if isinstance(classifier, Classifier) and inquiry.against:
        check_knows(classifier.judges, seen[0].seen["classifier"].rows)
    reference = {
        name: _look(metric, extra.used, (), inquiry)
        for name, metric in metrics.items()
        if extra and against(name) == "reference"
    }
    side = seen[0] if inquiry.against else None
    folders = [_figures(s, side if s is not side else None, metrics, reference) for s in seen]
    result = _result(inquiry, folders, metrics)
    if processes.is_main():
        _write(out, result, _shown(seen, inquiry), inquiry.model)
    return result


def _result(
    inquiry: Inquiry, folders: Sequence[Mapping[str, Any]], metrics: Mapping[str, Metric[Any]]
) -> dict[str, Any]:
    """The content of ``report.json``."""
    judges = [m.judges for m in metrics.values() if isinstance(m, Classifier)]
    result = {
        "schema": SCHEMA,
        "folders": folders,
        "base": folders[0]["name"] if inquiry.against else None,
        "concept": inquiry.concept.name if inquiry.concept else None,
        "kind": inquiry.concept.kind if inquiry.concept else None,
        "prompts": inquiry.prompts.name if inquiry.prompts else None,
        "reference": str(inquiry.reference) if inquiry.reference else None,
        "notes": [*_notes(folders), *(text for own in judges for text in assumed(own))],
        "metrics": {name: metric.facts for name, metric in metrics.items()},
        "confidence": CONFIDENCE,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }
    found: dict[str, Any] = json.loads(json.dumps(result))
    # Sentences name judges by their specs, which say where their files lie.
    specs = [judge.spec for each in judges for judge in each.values()]
    return {**found, "notes": without_places(found["notes"], specs)}


def _write(
    out: Path, result: Mapping[str, Any], shown: Mapping[str, Sequence[Shown]], model: str
) -> None:
    from erase.eval.folders.page import render
    from erase.eval.folders.tables import csv, markdown

    write_json(out / "report.json", result)
    write_text(out / "report.md", markdown(result))
    write_text(out / "report.csv", csv(result))
    write_text(out / "report.html", render(result, shown, model))


def _scan(place: Path, inquiry: Inquiry) -> Scan:
    """The folder's pictures; those of the concept, by label or prompt, are forget images.

    Where no label tells, a manifest that states roles is believed.
    """
    found = scan(place, inquiry.prompts)
    concept = inquiry.concept
    if concept is None:
        return found
    # What else a run moved is for its own report: those prompts count towards no accuracy.
    left_out = {*GROUPS} - {role for name in inquiry.metrics for role in beyond(name)}
    used = tuple(p for p in found.used if p.role not in left_out)
    if not used:
        raise UserError(
            f"No picture in {place} has a forget or a retained prompt: leave out --concept, or "
            "give the run folder."
        )
    beside = [p.file.relative_to(place) for p in found.used if p.role in left_out]
    skipped = (*found.skipped, *(Remark(path, Defect.BESIDE) for path in beside))
    found = replace(found, used=used, skipped=skipped)
    asked = [p for p in used if p.role not in GROUPS]
    labelled = any(concept.axis in p.labels for p in asked)
    if not asked or (not labelled and any(p.role == "forget" for p in asked)):
        return found
    if concept.axis and not labelled:
        raise UserError(
            f"The pictures in {place} have no label '{concept.axis}', which {concept.name} needs: "
            "give a --set with that column."
        )
    return replace(
        found,
        used=tuple(
            p
            if p.role in GROUPS
            else replace(p, role="forget" if belongs(p.prompt, p.labels, concept) else "retain")
            for p in used
        ),
    )


def _look(
    metric: Metric[Any], pictures: Sequence[Picture], base: Sequence[Picture], inquiry: Inquiry
) -> Seen:
    """What a metric sees: all pictures, or, of an erased concept, those that it chooses."""
    sides = (
        [p for p in side if inquiry.concept is None or metric.looks_at(p)]
        for side in (pictures, base)
    )
    own, other = sides
    return Seen(own, metric.measure(own, other))


def _notes(folders: Sequence[Mapping[str, Any]]) -> list[str]:
    """What was asked for and could not be measured, and what to mind, each sentence once."""
    found: dict[str, None] = {}
    for folder in folders:
        for row in folder["figures"]:
            if row["reason"]:
                found[f"{row['title']}: {row['reason']}"] = None
        for key, own in folder.items():
            if isinstance(own, Mapping) and own.get("warning"):
                found[f"{folder['name']}, {key}: {own['warning']}"] = None
    fids = [fid for folder in folders if (fid := (folder.get("fidelity") or {}).get("fid"))]
    counts = sorted({fid["n"] for fid in fids})
    if len(counts) > 1:
        found[
            f"{fids[0]['name']} is of {counts[0]:,} images in one folder and of {counts[-1]:,} in "
            "another: it falls with their number whatever they show, so compare KID, or folders of "
            "as many images."
        ] = None
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
        # Of nudity as the concept, its own prompts count as in a run's report, where any is told.
        whole=concept.kind != "nudity" or all(p.role != "forget" for p in pictures),
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
    folder: Folder,
    base: Folder | None,
    metrics: Mapping[str, Metric[Any]],
    reference: Mapping[str, Seen],
) -> dict[str, Any]:
    """A folder's part of the report: every metric's figures, and the keys that it has of its own.

    Args:
        base: the base side; None for none, and for the base side itself.
        reference: by metric that measures against one.
    """
    used = folder.found.used
    found: dict[str, Any] = {
        "name": folder.name,
        "path": str(folder.path),
        "n": len(used),
        "forget": sum(p.role == "forget" for p in used),
        "scan": {**summary(folder.found), "words": words(folder.found)},
    }
    figures: list[Figure] = []
    for name, metric in metrics.items():
        seen, other = folder.seen[name], base.seen[name] if base else None
        second = {"base": other, "reference": reference.get(name)}.get(against(name) or "")
        place: dict[str, Any] = {"metric": name, "side": folder.name, "against": against(name)}
        scored = metric.score(seen.rows, second.rows if second else ())
        if isinstance(metric, Sectioned):
            own = metric.folder(seen, second)
            scored += own.pop("figures", [])
            found |= own
        if not (by_group(name) and second is None):
            figures += [replace(f, **place) for f in scored]
    return {**found, "figures": [asdict(f) for f in figures]}


def _shown(seen: Sequence[Folder], inquiry: Inquiry) -> dict[str, list[Shown]]:
    """By folder, what the page shows: the pictures in which something counted was detected, or,
    where nothing was looked for, all."""
    from erase.eval.folders.page import Shown

    veiled = inquiry.concept is not None and inquiry.concept.kind == "nudity"
    found: dict[str, list[Shown]] = {}
    for s in seen:
        own = s.found.used
        if "nudity" in s.seen:
            hits = [nudity.counted(row, inquiry.counted) for row in s.seen["nudity"].rows]
            found[s.name] = [
                Shown(p, s.path, tuple((d.label, d.score) for d in parts), True)
                for p, parts in zip(s.seen["nudity"].images, hits, strict=True)
                if parts
            ]
        else:
            found[s.name] = [Shown(p, s.path, (), veiled) for p in own]
    return found
