"""The report of a run: ``report.json``, typed, and for people ``report.{html,md,csv}``."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.eval.instruments.setting import Setting
from erase.eval.judge_checks import assumed, check_knows
from erase.eval.metrics import build_metric
from erase.eval.metrics.classifier import build as build_classifier
from erase.eval.metrics.clip_score import build as build_clip_score
from erase.eval.metrics.lpips import build as build_lpips
from erase.eval.metrics.nudity import build as build_nudity
from erase.eval.metrics.nudity import flagged as flags
from erase.eval.pictures import Picture, read_pictures
from erase.eval.report.conclusion import complement, conclude
from erase.eval.report.over_erasure import ROLES, over_erasure
from erase.eval.report.page import Evidence
from erase.eval.report.provenance import provenance
from erase.eval.report.result import Report as Result
from erase.eval.report.result import load_report, read_object
from erase.eval.report.schema import (
    SCHEMA,
    Exposed,
    Fit,
    Layer,
    Moved,
    PerClass,
    Report,
    Side,
    Step,
    Subject,
    Summary,
)
from erase.eval.report.verdict import headline
from erase.eval.stats.intervals import Average
from erase.eval.stats.paired import difference
from erase.images.files import MANIFEST, read_manifest
from erase.prompts.groups import GROUPS
from erase.runtime import processes
from erase.runtime.errors import UserError
from erase.runtime.files import write_json, write_text
from erase.runtime.places import without_places
from erase.runtime.words import fold

if TYPE_CHECKING:
    import torch

    from erase.eval.instruments.features import Extractor
    from erase.eval.instruments.judges import Judge
    from erase.eval.instruments.nudenet import Detector
    from erase.eval.metrics.classifier import Accuracy, ClassShare, Judged
    from erase.eval.metrics.fidelity import Fidelity
    from erase.prompts.concept import Concept


__all__ = ["SCHEMA", "Report", "evaluate", "headline", "read_report"]

REPORT = "report.json"
Key = tuple[str, int, int]
"""See ``Picture.key``."""


def evaluate(
    run: Path,
    concept: Concept,
    anchor: Concept,
    instruments: Instruments = UNNAMED,
    *,
    device: str | torch.device = "cpu",
    judges: Mapping[str, Judge] | None = None,
    extractor: Extractor | None = None,
    store: Path | None = None,
    detector: Detector | None = None,
    only: Set[Key] | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Measures a run's images and writes ``report.{json,html,md,csv}``.

    Args:
        run: a run folder with ``eval/{base,base2,erased}/SET/``.
        concept: what was erased.
        anchor: what should stand in its place.
        instruments: what the images are measured with, as the user named it.
        device: where judges and feature networks compute.
        judges: by axis, instead of those of ``instruments``.
        extractor: feature network, instead of theirs.
        store: folder of what was measured earlier; None is the run's own.
        detector: of nudity, instead of NudeNet.
        only: the images to look at (``Picture.key``), of a run that erased several concepts.
        out: where the report is written; None is the run folder.

    Returns:
        The report as it stands in ``report.json``.

    Raises:
        UserError: missing or altered images, or a judge that can't be opened.
    """
    from erase.eval.report import tables as report_tables
    from erase.eval.report.page import render

    began = time.perf_counter()
    facts = read_object(run / "run.json")
    if only is not None:
        asked = set(concept.prompts())
        facts = {**facts, "pairs": [p for p in facts.get("pairs", []) if p[0] in asked]}
    every = {side: _pictures(run / "eval" / side, only) for side in ("base", "base2", "erased")}
    _check_pairs(every, run)
    sides = {s: [p for p in found if p.role not in GROUPS] for s, found in every.items()}
    others = {s: [p for p in found if p.role in GROUPS] for s, found in every.items()}
    setting = _setting(
        run,
        facts,
        sides["base"],
        (concept, anchor),
        instruments,
        store=store,
        device=device,
        judges=judges,
        extractor=extractor,
        detector=detector,
    )
    classifier = build_classifier(setting)
    judged = {side: classifier.measure(sides[side]) for side in ("base", "erased")}
    check_knows(classifier.judges, judged["base"])
    accuracy: dict[str, Accuracy] = {
        side: classifier.score(rows, judged["base"]) for side, rows in judged.items()
    }
    distance = build_metric("fidelity", setting)
    kept = {side: [p for p in sides[side] if p.role == "retain"] for side in sides}
    vectors = {side: distance.measure(pictures) for side, pictures in kept.items()}
    fidelity: dict[str, Fidelity] = {
        side: distance.score(vectors[side], vectors["base2"]) for side in ("base", "erased")
    }
    aligned = build_clip_score(setting)
    fits: dict[str, Average] = {
        side: aligned.score(aligned.measure(kept[side])) for side in ("base", "erased")
    }
    perceptual = build_lpips(setting)
    beyond = over_erasure(every, classifier, aligned, perceptual, _trained(run, facts))
    exposure = build_nudity(setting)
    seen = {side: exposure.measure(sides[side]) for side in ("base", "erased")}
    compared = exposure.score(seen["erased"], seen["base"])
    flagged = {
        picture.file
        for side, rows in seen.items()
        if rows
        for picture, hit in zip(
            exposure.chosen(sides[side]), flags(rows, exposure.config), strict=True
        )
        if hit
    }
    reasons = dict(accuracy["erased"].reasons)
    if fits["erased"].reason is not None:
        reasons["clip_score"] = fits["erased"].reason
    if fidelity["erased"].reason is not None:
        reasons["fidelity"] = fidelity["erased"].reason
    if beyond.lpips is None:
        reasons["lpips"] = "not measured: no --lpips network"
    table = _per_class(accuracy["base"], accuracy["erased"], judged)
    unlearned = {side: a.ua for side, a in accuracy.items()}
    if concept.kind == "nudity" and compared is not None:
        seen_in = {"base": compared.base.share, "erased": compared.erased.share}
        unlearned = {side: found and complement(found) for side, found in seen_in.items()}
    report = Report(
        schema=SCHEMA,
        run=_run(facts, concept, anchor),
        verdict=(),
        conclusion=conclude(
            concept.word or "the empty prompt",
            unlearned["base"],
            unlearned["erased"],
            {(r.axis, r.label): r.paired for r in table if r.role == "retain" and r.paired},
            {group.name: group.further for group in beyond.groups},
            reason=reasons.get("ua", "not measured"),
            nudity=concept.kind == "nudity" and compared is not None,
        ),
        concept=_subject(concept),
        anchor=_subject(anchor),
        target=classifier.facts["target"],
        axes=tuple(classifier.facts["judges"]),
        images={s: _by_role(pictures) for s, pictures in every.items()},
        summary=Summary(_side(accuracy["base"]), _side(accuracy["erased"]), reasons),
        per_class=table,
        became={side: a.became for side, a in accuracy.items()},
        confusion={side: a.confusion for side, a in accuracy.items()},
        fidelity=_moved(fidelity["base"], fidelity["erased"]),
        clip_score=_fit(aligned.facts["model"], fits["base"], fits["erased"]),
        nudity=None if compared is None else Exposed(exposure.facts, compared),
        over_erasure=beyond,
        warnings=tuple(
            w
            for w in (fidelity["erased"].warning, classifier.told, *assumed(classifier.judges))
            if w is not None
        ),
        mask=_mask(run / "mask.safetensors"),
        training=_training(run / "train.jsonl"),
        provenance=provenance(
            facts,
            every,
            {
                "classifier": classifier.facts,
                "fidelity": distance.facts,
                "clip_score": aligned.facts,
                "nudity": exposure.facts,
                "lpips": perceptual.facts,
            },
            time.perf_counter() - began,
        ),
    )
    result: dict[str, Any] = json.loads(json.dumps(asdict(report)))
    result["verdict"] = [*result["conclusion"]["words"], *headline(result)]
    told = result["provenance"]
    result = without_places(result, told["metrics"], told["model"], result["run"])
    if not processes.is_main():
        return result
    html = render(result, Evidence(sides, judged, flagged, others), run)
    place = out or run
    write_json(place / REPORT, result)
    write_text(place / "report.md", report_tables.markdown(result))
    write_text(place / "report.csv", report_tables.csv(result))
    write_text(place / "report.html", html)
    return result


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
            f"The base and the erased images of {run} are of different prompts or seeds: "
            "run 'erase generate --overwrite'."
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


def _side(accuracy: Accuracy) -> Side:
    a = accuracy
    return Side(a.ua, a.ra, a.ira, a.cra, a.became_anchor)


def _per_class(
    base: Accuracy, erased: Accuracy, judged: Mapping[str, Sequence[Judged]]
) -> tuple[PerClass, ...]:
    """Joins the sides, whose images are of the same labels in the same order."""
    rows = []
    for b, e in zip(base.per_class, erased.per_class, strict=True):
        hits = {
            side: [row.said[b.axis][0] == b.label for row in found if _is_of(row, b)]
            for side, found in judged.items()
        }
        paired = difference(hits["base"], hits["erased"])
        change = float(e.change or 0.0)
        rows.append(PerClass(b.axis, b.label, b.role, b.share, e.share, change, paired))
    return tuple(rows)


def _is_of(row: Judged, share: ClassShare) -> bool:
    """Whether an image counts towards a label's share."""
    if row.role != share.role:
        return False
    return share.role == "forget" or row.labels.get(share.axis) == share.label


def _moved(base: Fidelity, erased: Fidelity) -> tuple[Moved, ...]:
    return tuple(
        Moved(e.name, b.value, e.value, e.n, e.reference_n, e.dimensions, b.spread, e.spread)
        for b, e in ((base.fid, erased.fid), (base.kid, erased.kid))
        if b is not None and e is not None
    )


def _fit(spec: str | None, base: Average, erased: Average) -> Fit | None:
    if spec is None or base.value is None or erased.value is None:
        return None
    sides = [{k: v for k, v in asdict(a).items() if k != "reason"} for a in (base, erased)]
    return Fit(spec, *sides)


def _run(facts: Mapping[str, Any], concept: Concept, anchor: Concept) -> dict[str, Any]:
    recipe = facts.get("recipe", {})
    return {
        "concept": concept.name,
        "anchor": anchor.name,
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
