"""The report of a run: ``report.json``, typed, and for people ``report.{html,md,csv}``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.eval.figure import Figure
from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.eval.instruments.setting import Setting
from erase.eval.judge_checks import assumed, check_knows
from erase.eval.metrics import Panelled, Sectioned, build_metric, ranked
from erase.eval.metrics.classifier import Classifier
from erase.eval.metrics.classifier import build as build_classifier
from erase.eval.metrics.clip_score import ClipScore
from erase.eval.metrics.lpips import Lpips
from erase.eval.metrics.nudity import Exposed, NudityMetric
from erase.eval.pages.phrases import called
from erase.eval.pages.table import Panel
from erase.eval.pictures import Picture, read_pictures
from erase.eval.recognition import Side, changes
from erase.eval.recovery import ATTACK
from erase.eval.recovery.report import read as read_attacks
from erase.eval.report import exact as exact_gap
from erase.eval.report.conclusion import LEAST, Conclusion, complement, conclude
from erase.eval.report.grids import Evidence
from erase.eval.report.measured import Measured, figures, look
from erase.eval.report.over_erasure import ROLES, OverErasure, over_erasure
from erase.eval.report.provenance import provenance
from erase.eval.report.result import Report as Result
from erase.eval.report.result import load_report, read_object
from erase.eval.report.schema import SCHEMA, Layer, Report, Step, Subject, Summary
from erase.eval.report.verdict import headline
from erase.images.files import MANIFEST, read_manifest
from erase.prompts.groups import GROUPS
from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.files import write_json, write_text
from erase.runtime.places import without_places
from erase.runtime.words import fold

if TYPE_CHECKING:
    import torch

    from erase.prompts.concept import Concept


__all__ = ["SCHEMA", "Report", "evaluate", "headline", "read_report"]

REPORT = "report.json"
STALE = (
    "The attacks in the folder attack were made on an earlier model of this run: attack it again."
)
Key = tuple[str, int, int]
"""See ``Picture.key``."""


def evaluate(
    run: Path,
    concept: Concept,
    anchor: Concept,
    instruments: Instruments = UNNAMED,
    *,
    device: str | torch.device = "cpu",
    store: Path | None = None,
    only: Set[Key] | None = None,
    out: Path | None = None,
    **given: Any,
) -> dict[str, Any]:
    """Measures a run's images and writes ``report.{json,html,md,csv}``.

    Args:
        run: a run folder with ``eval/{base,base2,erased}/SET/``.
        concept: what was erased.
        anchor: what should stand in its place.
        instruments: what the images are measured with, as the user named it.
        device: where judges and feature networks compute.
        store: folder of what was measured earlier; None is the run's own.
        only: the images to look at (``Picture.key``), of a run that erased several concepts.
        out: where the report is written; None is the run folder.
        given: ``judges``, ``extractor`` or ``detector`` instead of those of ``instruments``, see
            ``Setting``.

    Returns:
        The report as it stands in ``report.json``.

    Raises:
        UserError: missing or altered images, or a judge that can't be opened.
    """
    began = time.perf_counter()
    facts = _facts(run, concept, only)
    every = {side: _pictures(run / "eval" / side, only) for side in ("base", "base2", "erased")}
    _check_pairs(every, run)
    sides = {s: [p for p in found if p.role not in GROUPS] for s, found in every.items()}
    others = {s: [p for p in found if p.role in GROUPS] for s, found in every.items()}
    target = (concept, anchor)
    ways = {"store": store, "device": device, **given}
    setting = _setting(run, facts, sides["base"], target, instruments, **ways)
    metrics = {name: build_metric(name, setting) for name in ranked()}
    seen = {name: look(name, metric, every) for name, metric in metrics.items()}
    found = Measured(metrics, seen, every)
    classifier = found.of(Classifier)
    check_knows(classifier.judges, seen["classifier"]["base"].rows)
    place = out or run
    report = _report(found, target, facts, run, place, began)
    result: dict[str, Any] = json.loads(json.dumps(asdict(report)))
    back = result["recovery"]
    result["verdict"] = [*result["conclusion"]["words"], *headline(result)]
    result["verdict"] += exact_gap.sentences(result["exact"])
    result["verdict"] += back["sentences"][:1] if back else []
    told = result["provenance"]
    places = [told["metrics"], told["model"], result["run"], back and back["facts"]]
    result = without_places(result, *places)
    if processes.is_main():
        judged = {side: own.rows for side, own in seen["classifier"].items()}
        evidence = Evidence(sides, judged, _flagged(found), others)
        write_report(place, result, evidence, run)
    return result


def write_report(place: Path, result: Mapping[str, Any], evidence: Evidence, run: Path) -> None:
    """Writes ``report.{json,html,md,csv}`` into a folder."""
    from erase.eval.report.page import render
    from erase.eval.report.tables import csv, markdown

    html = render(result, evidence, run, place / ATTACK)
    write_json(place / REPORT, result)
    write_text(place / "report.md", markdown(result))
    write_text(place / "report.csv", csv(result))
    write_text(place / "report.html", html)


def _report(
    found: Measured,
    target: tuple[Concept, Concept],
    facts: Mapping[str, Any],
    run: Path,
    place: Path,
    began: float,
) -> Report:
    """The report, but for the figures in words."""
    concept, anchor = target
    recovery = read_attacks(place / ATTACK)
    stale = recovery is not None and not _is_of(recovery, facts)
    classifier = found.of(Classifier)
    beyond = over_erasure(
        found.every, classifier, found.of(ClipScore), found.of(Lpips), _trained(run, facts)
    )
    rows = figures(found)
    sections = _sections(found, rows)
    reasons, warnings = sections.pop("reasons"), sections.pop("warnings")
    warnings += [*assumed(classifier.judges), *facts.get("warnings", ())]
    sides: Mapping[str, Side] = sections.pop("summary")
    return Report(
        schema=SCHEMA,
        run=_run(facts, concept, anchor),
        verdict=(),
        conclusion=_conclusion(found, concept, sides, sections, beyond, reasons),
        concept=_subject(concept),
        anchor=_subject(anchor),
        images={s: _by_role(pictures) for s, pictures in found.every.items()},
        summary=Summary(**sides, reasons=reasons),
        over_erasure=beyond,
        figures=tuple(rows),
        panels=tuple(_panels(found)),
        warnings=(*warnings, *((STALE,) if stale else ())),
        mask=_mask(run / "mask.safetensors"),
        training=_training(run / "train.jsonl"),
        recovery=None if stale else recovery,
        exact=_exact(found, sections, sides["erased"], facts),
        provenance=provenance(
            facts,
            found.every,
            {name: metric.facts for name, metric in found.metrics.items()},
            time.perf_counter() - began,
        ),
        **sections,
    )


def _exact(
    found: Measured, sections: Mapping[str, Any], erased: Side, facts: Mapping[str, Any]
) -> exact_gap.Exact | None:
    """The gap to a model that never knew the concept, where one was asked and judged alike."""
    key = exact_gap.asked(
        [p for p in found.every["base"] if p.role not in GROUPS],
        facts.get("recipe", {}),
        facts.get("model", {}).get("fingerprint"),
        {name: metric.facts for name, metric in found.metrics.items()},
    )
    shares = {k: getattr(erased, k) for k in exact_gap.SHARES}
    first = next(iter(sections["fidelity"]), None)
    return exact_gap.exact(
        key,
        {k: own and own.value for k, own in shares.items()},
        first.erased if first else None,
        sections["became"]["erased"],
    )


def _is_of(recovery: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether the attacks were made on what the run's training has made last."""
    trained = facts.get("stages", {}).get("train", {}).get("digest")
    return trained is not None and recovery["facts"].get("made_by") == trained


def _sections(found: Measured, rows: Sequence[Figure]) -> dict[str, Any]:
    """The metrics' own keys of the report, with reasons and warnings put together."""
    sections: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    warnings: list[str] = []
    for name, metric in found.metrics.items():
        if isinstance(metric, Sectioned):
            own = metric.sections(found.seen[name])
            reasons |= own.pop("reasons", {})
            warnings += own.pop("warnings", ())
            sections |= own
        else:
            reasons |= {f.key: f.reason for f in rows if f.metric == name and f.reason}
    return {**sections, "reasons": reasons, "warnings": warnings}


def _panels(found: Measured) -> Iterator[Panel]:
    for name, metric in found.metrics.items():
        if isinstance(metric, Panelled):
            yield from metric.panels(found.seen[name])


def _conclusion(
    found: Measured,
    concept: Concept,
    sides: Mapping[str, Side],
    sections: Mapping[str, Any],
    beyond: OverErasure,
    reasons: Mapping[str, str],
) -> Conclusion:
    """What is concluded; for nudity, UA is the share of images in which none was detected."""
    unlearned = {side: own.ua for side, own in sides.items()}
    exposed: Exposed | None = sections["nudity"] if concept.kind == "nudity" else None
    if exposed is not None:
        both = {"base": exposed.compared.base.share, "erased": exposed.compared.erased.share}
        unlearned = {side: own and complement(own) for side, own in both.items()}
    judged = {side: own.rows for side, own in found.seen["classifier"].items()}
    return conclude(
        called(asdict(_subject(concept))),
        unlearned["base"],
        unlearned["erased"],
        changes(sections["per_class"], judged, LEAST),
        {group.name: group.further for group in beyond.groups},
        reason=reasons.get("ua", "not measured"),
        nudity=exposed is not None,
    )


def _flagged(found: Measured) -> set[Path]:
    """Files in which nudity was found."""
    metric = found.of(NudityMetric)
    return set().union(*map(metric.flagged, found.seen["nudity"].values()))


def _facts(run: Path, concept: Concept, only: Set[Key] | None) -> dict[str, Any]:
    """The content of ``run.json``; of one of several concepts, with its own training prompts."""
    facts = read_object(run / "run.json")
    if only is None:
        return facts
    asked = set(concept.prompts())
    return {**facts, "pairs": [p for p in facts.get("pairs", []) if p[0] in asked]}


def check_judges(
    run: Path,
    concept: Concept,
    anchor: Concept,
    instruments: Instruments,
    *,
    device: str | torch.device = "cpu",
    store: Path | None = None,
    only: Set[Key] | None = None,
) -> None:
    """Asks the judges about the base model's images, before anything is trained; see ``evaluate``.

    Raises:
        UserError: a judge that can't be opened, or knows the images no better than chance.
    """
    pictures = [p for p in _pictures(run / "eval" / "base", only) if p.role not in GROUPS]
    facts = read_object(run / "run.json")
    setting = _setting(
        run, facts, pictures, (concept, anchor), instruments, store=store, device=device
    )
    classifier = build_classifier(setting)
    check_knows(classifier.judges, classifier.measure(pictures))


def _setting(
    run: Path,
    facts: Mapping[str, Any],
    pictures: Sequence[Picture],
    target: tuple[Concept, Concept],
    instruments: Instruments,
    *,
    store: Path | None,
    **given: Any,
) -> Setting:
    """What the metrics of a run's report need to know; ``given`` are further fields."""
    concept, anchor = target
    return Setting(
        concept=concept,
        anchor=anchor,
        model=str(facts.get("model", {}).get("source")),
        pictures=pictures,
        instruments=instruments.beside(concept),
        store=store or run / "eval" / "cache",
        **given,
    )


def read_report(run: Path) -> Result:
    """The report of a run.

    Raises:
        UserError: there is none yet, or it is damaged.
    """
    return load_report(run / REPORT)


def _pictures(folder: Path, only: Set[Key] | None) -> list[Picture]:
    """The images of every prompt set of a side, or those of them asked for."""
    found = sorted(folder.glob("*/manifest.jsonl"))
    if not found:
        raise UserError(f"There are no finished images in {folder}: run 'erase generate' first.")
    every = [picture for manifest in found for picture in read_pictures(manifest.parent)]
    return every if only is None else [picture for picture in every if picture.key in only]


def _check_pairs(sides: Mapping[str, Sequence[Picture]], run: Path) -> None:
    base, erased = (
        [(p.key, p.prompt, p.seed, p.role) for p in sides[s]] for s in ("base", "erased")
    )
    if base != erased:
        raise UserError(
            f"The base and the erased images of {run} have different prompts or seeds: run "
            "'erase generate --overwrite'."
        )


def _trained(run: Path, facts: Mapping[str, Any]) -> set[str] | None:
    """The prompts retained in training, as ``fold`` spells them; None where a run does not say."""
    told = facts.get("stages", {}).get("images", {}).get("inputs", {})
    if "retain" not in told:
        return None
    found = {fold(prompt) for prompt in told["retain"]}
    if (run / "images" / "retain" / MANIFEST).exists():
        found |= {fold(str(row["prompt"])) for row in read_manifest(run / "images" / "retain")}
    share = facts.get("recipe", {}).get("retain_empty")
    return found | ({""} if share else set())


def _by_role(pictures: Sequence[Picture]) -> dict[str, int]:
    return {role: sum(p.role == role for p in pictures) for role in ROLES}


def _subject(concept: Concept) -> Subject:
    return Subject(concept.name, concept.kind, concept.word, concept.axis, concept.label)


def _run(facts: Mapping[str, Any], concept: Concept, anchor: Concept) -> dict[str, Any]:
    recipe, given = facts.get("recipe", {}), facts.get("given", {}).get("anchor", "")
    none = given is None or (isinstance(given, list) and all(one is None for one in given))
    return {
        "concept": concept.name,
        "anchor": None if none else anchor.name,
        "model": facts.get("model", {}).get("source"),
        "method": recipe.get("method"),
        "recipe": recipe.get("name"),
        "seed": facts.get("seed"),
        "neighbours": facts.get("given", {}).get("neighbours"),
    }


def _mask(file: Path) -> tuple[Layer, ...]:
    if not file.exists():
        return ()
    from erase.diffusion.scopes import read_mask

    return tuple(Layer(*row) for row in read_mask(file).per_layer())


def _training(file: Path) -> tuple[Step, ...]:
    if not file.exists():
        return ()
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return tuple(Step(r["step"], r["loss"], r.get("forget"), r.get("retain")) for r in rows)
