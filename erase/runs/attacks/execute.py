"""Attacks made side by side: the model, random search on it, and its bounds, which are kept."""

from __future__ import annotations

import gc
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from erase.eval.attacks import DoesNotApply, Found, Target, list_attacks, load_attack
from erase.eval.attacks._images import draw
from erase.eval.instruments.setting import Setting
from erase.eval.pictures import Picture
from erase.eval.recovery.outcome import SIDES, STATISTICS, Seen, SideName, outcome
from erase.eval.recovery.report import report, write
from erase.eval.recovery.witness import Witness, load_witness
from erase.formats.base import open_base
from erase.images.plan import plan
from erase.prompts.classes import anchor_of
from erase.prompts.held_out import evaluation_rows
from erase.runs.attacks import UNKNOWN, findings
from erase.runs.attacks.inquiry import Inquiry
from erase.runs.attacks.kept import (
    Bench,
    blind,
    code_of,
    holds,
    judges,
    key_of,
    known,
    read,
    record,
)
from erase.runs.attacks.targets import BOUNDS, target_for, target_of
from erase.runs.make import family
from erase.runs.outline import tell
from erase.runtime import processes
from erase.runtime.devices import accelerator, memory_told
from erase.runtime.errors import UserError
from erase.runtime.files import atomic, cache_folder, digest, write_json
from erase.runtime.seeding import generator

if TYPE_CHECKING:
    from erase.diffusion.model import Diffusion

SMALLER = (
    "make fewer images at a time (--batch; of a run, --sampling-batch), or leave out the attack "
    "with --attacks"
)
"""What to do where memory is full."""

KINDS = ("alone", "undoes", "untaught")
"""What a module of an attack may say of it, see ``outcome``."""
HARDLY = 0.25
"""Share of a made-up name's images that may show the concept, where it has to stand for none."""


def open_bench(inquiry: Inquiry) -> Bench:
    """Opens the models and the judges.

    Raises:
        UserError: a model that can't be opened, or has another architecture or noise schedule than
            the base, or no judge of the concept.
    """
    from erase.diffusion.fingerprint import model_fingerprint
    from erase.diffusion.model import Diffusion

    device = accelerator(inquiry.device, "fp32", inquiry.deterministic, several=True).device
    specs = {"model": inquiry.model, "base": inquiry.base}
    if inquiry.floor is not None:
        specs["floor"] = inquiry.floor
    # What has to be fetched or put together is so once.
    whole = [spec for name, spec in specs.items() if name != "model" or inquiry.strength is None]
    first_alone(lambda: [open_base(spec) for spec in whole])
    opened: dict[str, Diffusion] = {}
    if inquiry.strength is not None:
        opened[inquiry.model] = Diffusion.load(
            inquiry.base, device, edit=inquiry.model, strength=inquiry.strength
        )
    for spec in specs.values():
        opened[spec] = opened.get(spec) or Diffusion.load(spec, device)
    models = {name: opened[spec] for name, spec in specs.items()}
    base = models["base"]
    base.family.check_sampling(inquiry.sampler.steps, inquiry.sampler.name)
    for name, model in models.items():
        shapes, own = (
            {key: value.shape for key, value in m.denoiser.state_dict().items()}
            for m in (base, model)
        )
        if type(model.pipeline) is not type(base.pipeline) or shapes != own:
            raise UserError(
                f"{specs[name]} is not of {inquiry.base}'s architecture, so that attacks on one "
                f"say nothing of the other: give the --{'floor' if name == 'floor' else 'base'} "
                "that fits."
            )
        if not _noised_alike(base, model):
            raise UserError(
                f"{specs[name]} and {inquiry.base} differ in their noise schedule or in what they "
                "predict, so that attacks on one say nothing of the other: give the "
                f"--{'floor' if name == 'floor' else 'base'} that fits."
            )
    known = {spec: digest(model_fingerprint(model)) for spec, model in opened.items()}
    prints = {name: known[spec] for name, spec in specs.items()}
    if inquiry.seed == 0 and prints.get("floor") == prints["model"]:
        raise UserError(
            f"{inquiry.model} is its own floor, and seed 0 is the floor's: give another --seed."
        )
    witness = load_witness(setting_of(inquiry, device), inquiry.strict)
    bench = Bench(inquiry, models, prints, witness)
    if inquiry.floor is not None or inquiry.concept.classes:
        return bench
    return replace(bench, inquiry=replace(inquiry, unknown=processes.first(lambda: _name(bench))))


def _noised_alike(one: Diffusion, other: Diffusion) -> bool:
    """Whether two models were trained to tell the same from the same x_t."""
    x_0, noise = torch.randn(2, 8, 1, 2, 2, generator=generator("alike"))
    drawn = []
    for model in (one, other):
        t = model.times((8,), generator("times"))
        drawn.append((t.float(), model.add_noise(x_0, noise, t), model.target(x_0, noise, t)))
    return all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*drawn, strict=True))


def _name(bench: Bench) -> str:
    """The first made-up name by which the base hardly draws the concept, or that by which it does
    least: to the base every word means something."""
    inquiry = bench.inquiry
    targets = {
        name: target_of(replace(inquiry, unknown=name), "floor", bench.witness.judge, text=True)
        for name in UNKNOWN
    }
    asked = [[row.prompt, row.seed] for target in targets.values() for row in target.rows]
    sampler = asdict(inquiry.sampler)
    key = digest([bench.prints["base"], asked, sampler, inquiry.batch, judges(bench.witness)])
    file = cache_folder() / "bounds" / f"name-{key[:16]}.json"
    if file.is_file():
        return str(json.loads(file.read_text(encoding="utf-8"))["name"])
    shares: dict[str, float] = {}
    for name, target in targets.items():
        images, _ = draw(bench.models["base"], target.rows, target)
        shares[name] = float(np.mean(bench.witness.shows(images)))
        if shares[name] < HARDLY:
            break
    best = min(shares, key=lambda name: shares[name])
    write_json(file, {"name": best, "shares": shares})
    return best


def setting_of(inquiry: Inquiry, device: torch.device, fetch: bool = True) -> Setting:
    """Of the base's images; ``fetch``: whether a judge may be downloaded."""
    concept = inquiry.concept
    anchor = anchor_of(concept, concept.anchor or "", family(inquiry.base))
    # Of what is judged: a zero-shot judge has to choose among the labels of the run's report.
    _, kept = evaluation_rows(concept, inquiry.retain)
    rows = [
        *target_of(inquiry, "erased", blind, text=False).rows,
        *plan(kept, max(len(kept), 1), "kept", "retain"),
    ]
    pictures = [
        Picture(Path(r.file), "", r.set, r.case_number, r.k, r.prompt, r.seed, r.role, r.labels)
        for r in rows
    ]
    given = inquiry.instruments.beside(concept)
    return Setting(concept, anchor, inquiry.base, pictures, given, device=device, fetch=fetch)


def attack(inquiry: Inquiry, overwrite: bool = False, command: str = "") -> dict[str, Any]:
    """Makes the attacks that are not finished yet, and the report.

    Args:
        inquiry: what is attacked.
        overwrite: make attacks again whose inputs changed, instead of refusing.
        command: as it was typed.

    Returns:
        The content of ``attack.json``.

    Raises:
        UserError: bad input, or results of other inputs.
    """
    with memory_told(SMALLER):
        bench = open_bench(inquiry)
    out, several = inquiry.out, processes.count() > 1
    first_alone(lambda: _refuse_other(bench, overwrite))
    out.mkdir(parents=True, exist_ok=True)
    with memory_told(SMALLER):
        # Alone, one attack after the other; several processes share all of them out.
        for names in [inquiry.attacks] if several else [(name,) for name in inquiry.attacks]:
            _make(bench, [(name, "erased") for name in names])
            _make(bench, [(n, side) for n in names if _applies(bench, n) for side in SIDES[1:]])
        # Of attacks that are there from before the bounds may be others now, or be gone.
        before = [name for name in _finished(bench) if _applies(bench, name)]
        _make(bench, [(name, side) for name in before for side in BOUNDS])
    outcomes, shown, refused = [], {}, {}
    made: dict[str, dict[SideName, Seen | str]] = {}
    for name in _finished(bench):
        own = _side(bench, name, "erased")
        if isinstance(own, str):
            refused[name] = own
            continue
        made[name] = {side: _side(bench, name, side) for side in SIDES}
    floors = (seen["floor"] for seen in made.values())
    unknown = next((floor.pre for floor in floors if not isinstance(floor, str)), ())
    for name, seen in made.items():
        module = load_attack(name)
        kind = {key: bool(getattr(module, key.upper(), False)) for key in KINDS}
        stops = getattr(module, "STOPS", ())
        outcomes.append(outcome(name, module.TEXT, seen, stops, **kind, unknown=unknown))
        shown[name] = findings.shown(inquiry, name, made[name]["erased"])
    if not outcomes:
        told = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise UserError(f"No attack applies to {bench.inquiry.model} ({told}).")
    found = report(outcomes, refused, _facts(bench, command), shown)
    if processes.is_main():
        write(found, out)
    processes.wait()
    return found


def _finished(bench: Bench) -> list[str]:
    """The attacks asked for, and those that this folder has from before, of the same inputs."""
    asked, found = bench.inquiry.attacks, list[str]()
    for name in list_attacks():
        there = bench.inquiry.out / "attacks" / name / "erased.json"
        sides = (known(bench, name, side) for side in ("erased", "random"))
        if name not in asked and there.is_file() and None not in sides:
            found.append(name)
    return [*asked, *found]


def first_alone(check: Callable[[], object]) -> None:
    """Has the first process alone look, and tells its mistake to all."""
    problem = None
    if processes.is_main():
        try:
            check()
        except UserError as error:
            problem = str(error)
    processes.agree(problem)


def _make(bench: Bench, sides: Sequence[tuple[str, SideName]]) -> None:
    """Makes what is not finished of some attacks' sides; several processes share them out."""
    attacks, several = bench.inquiry.attacks, processes.count() > 1
    todo = processes.first(lambda: [one for one in sides if known(bench, *one) is None])
    for name, side in processes.deal(todo):
        if name not in attacks:
            tell(f"attack {name}, which this folder has from before: {side}")
        elif several or side == "erased":
            which = f", {side}" if several else ""
            tell(f"attack {attacks.index(name) + 1} of {len(attacks)}: {name}{which}")
        _side(bench, name, side)
    processes.wait()


def _applies(bench: Bench, name: str) -> bool:
    """Whether the model could be attacked so."""
    return not isinstance(_side(bench, name, "erased"), str)


def _refuse_other(bench: Bench, overwrite: bool) -> None:
    """Refuses results of other inputs, or removes those of attacks that are not asked for: the
    attacks of a folder make one verdict.

    Raises:
        UserError: there are some, and ``overwrite`` is off.
    """
    out = bench.inquiry.out
    if not any(out.glob("attack.*")) and not (out / "attacks").exists():
        return
    for name in list_attacks():
        sides: tuple[SideName, ...] = ("erased", "random")
        keys = {side: key_of(bench, name, load_attack(name), side) for side in sides}
        files = {side: record(bench, name, side, key) for side, key in keys.items()}
        if not any(holds(file) and not read(file, keys[s]) for s, file in files.items()):
            continue
        if not overwrite:
            raise UserError(
                f"{out} holds {name} with other inputs: add --overwrite to make it again, or to "
                "remove it where it is not asked for, or choose another --out."
            )
        if name not in bench.inquiry.attacks:
            shutil.rmtree(files["erased"].parent)


def _side(bench: Bench, name: str, side: SideName) -> Seen | str:
    """What the judges say of a side, or why it can't be attacked."""
    found_before = known(bench, name, side)
    if found_before is not None:
        return found_before
    module = load_attack(name)
    key = key_of(bench, name, module, side)
    file = record(bench, name, side, key)
    model, base = bench.models[bench.of(side)], bench.models["base"]
    target = target_for(module, bench.inquiry, side, bench.witness.judge)
    seed = 0 if side in BOUNDS else bench.inquiry.seed
    settings = module.SETTINGS[bench.inquiry.budget]
    began = time.perf_counter()
    try:
        if side == "floor" and bench.inquiry.floor is None and getattr(module, "UNTAUGHT", False):
            raise DoesNotApply(
                "Only a model that never knew the concept can say how much comes of nothing: name "
                "one with --floor."
            )
        found = module.run(
            model, base, target, settings, side == "random", generator(seed, name, side)
        )
    except DoesNotApply as error:
        write_json(file, {"key": key, "reason": str(error), "seen": None})
        return str(error)
    seconds = time.perf_counter() - began
    plain = _plain(bench, side, target)
    seen = _judged(bench.witness, found, plain, len(target.rows), seconds)
    file.parent.mkdir(parents=True, exist_ok=True)
    if side not in BOUNDS:
        findings.keep(found, plain, file.parent / side, target)
    write_json(file, {"key": key, "reason": None, "seen": asdict(seen)})
    gc.collect()
    return seen


def _plain(bench: Bench, side: SideName, target: Target) -> list[NDArray[np.uint8]]:
    """The side's images of its rows without an attack, made once for all attacks."""
    who = bench.of(side)
    asked = [[r.prompt, r.seed, r.guidance, r.size] for r in target.rows]
    inquiry = bench.inquiry
    key = digest([bench.prints[who], asked, asdict(inquiry.sampler), inquiry.batch])
    file = inquiry.out / "plain" / f"{key[:16]}.npz"
    if not file.is_file():
        made, _ = draw(bench.models[who], target.rows, target)
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic(file) as part, part.open("wb") as stream:
            # By number: rows may be of several sizes.
            named: dict[str, Any] = {str(i): image for i, image in enumerate(made)}
            np.savez_compressed(stream, **named)
    with np.load(file) as opened:
        return [opened[str(i)] for i in range(len(target.rows))]


def _judged(
    witness: Witness, found: Found, plain: Sequence[NDArray[np.uint8]], rows: int, seconds: float
) -> Seen:
    post = witness.shows(found.images)
    return Seen(
        pre=witness.shows(plain),
        post=[post[i : i + rows] for i in range(0, len(post), rows)],
        chosen=witness.shows(found.chosen) if found.chosen else None,
        fresh=witness.shows(found.fresh) if found.fresh else None,
        curve={step: witness.shows(images) for step, images in found.curve.items()},
        forwards=found.forwards,
        seconds=round(seconds, 2),
    )


def _facts(bench: Bench, command: str) -> dict[str, Any]:
    inquiry = bench.inquiry
    concept = inquiry.concept
    return {
        "model": inquiry.model,
        "strength": inquiry.strength,
        "base": inquiry.base,
        "floor": inquiry.floor,
        "unknown": None if inquiry.floor else inquiry.unknown,
        "concept": {"name": concept.name, "kind": concept.kind, "word": concept.word},
        "budget": inquiry.budget,
        "seed": inquiry.seed,
        "rows": inquiry.rows,
        "sampler": asdict(inquiry.sampler),
        "paraphrases": list(inquiry.paraphrases),
        "judges": json.loads(json.dumps(dict(bench.witness.facts), default=str)),
        "fingerprints": dict(bench.prints),
        "command": command,
        "code": {name: code_of(name) for name in _finished(bench)},
        "statistics": STATISTICS,
        **inquiry.facts,
    }
