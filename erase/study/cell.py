"""One cell of a comparison: a run of its own, of which little is kept once it is measured."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from erase.eval.recovery import ATTACK
from erase.methods import edits, load_method
from erase.runs.attacks.of_run import Attacks, inquiry_of
from erase.runs.costs import forwards, image_forwards
from erase.runs.execute import execute
from erase.runs.folder import RunFolder
from erase.runs.manner import Manner
from erase.runtime.errors import UserError
from erase.runtime.files import digest, write_json
from erase.study.matrix import Cell

QUIET = Manner(ask_base=False, told=False)
"""A comparison shows how often the base makes the concept, and goes on; it tells of its cells."""
DELTA = "delta.safetensors"
"""The model, kept in a cell's folder as what differs from the base."""


def trouble(cell: Cell) -> Path:
    """Where a failed cell's traceback stands."""
    return cell.folder / "error.txt"


@contextmanager
def claimed(cell: Cell) -> Iterator[None]:
    """Keeps other processes from the cell.

    Raises:
        UserError: another one makes it already.
    """
    from filelock import FileLock, Timeout

    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(cell.folder.with_name(f".{cell.folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"Another process is making {cell.folder}: wait for it and compare again."
        ) from None
    try:
        yield
    finally:
        lock.release()


def run_cell(cell: Cell, overwrite: bool) -> None:
    """Runs one cell, writes ``cell.json`` and keeps the model as a delta."""
    import torch

    from erase.eval.comparison.compare import cell_facts
    from erase.formats.base import open_base
    from erase.formats.delta import save_delta
    from erase.formats.folder import read_parts
    from erase.runtime.fingerprint import fingerprint_state

    if cell.file.exists() and not overwrite:
        raise UserError(
            f"{cell.file} was made with other settings: add --overwrite or choose another --out."
        )
    trouble(cell).unlink(missing_ok=True)
    _restore(cell)
    execute(cell.run, ("images", "mask", "train", "generate", "eval"), overwrite, QUIET)
    part = load_method(cell.recipe.method).NEEDS.part
    before = open_base(cell.run.model).state(part)
    after = read_parts(cell.folder / "model", part)
    delta = cell.folder / DELTA
    delta.unlink(missing_ok=True)
    moved = 0
    if fingerprint_state(after) != fingerprint_state(before):
        moved = save_delta(delta, before, after)
    found = cell_facts(cell.folder)
    found |= {
        "inputs": digest(cell.inputs()),
        "weights": sum(v.numel() for v in before.values()),
        "moved": moved,
        "bytes": _stored(cell, delta) if moved else 0,
        "evidence": cell.evidence,
        "threads": torch.get_num_threads(),
        "seedless": cell.seedless,
        **_costs(cell),
    }
    write_json(cell.file, found)
    clear(cell)


def is_attacked(cell: Cell, attacks: Attacks | None, overwrite: bool = False) -> bool:
    """Whether all attacks asked for were made on the cell's model; there are none on one that was
    left as it is.

    Args:
        overwrite: those of an earlier version, or with other paraphrases, don't count.
    """
    if attacks is None or not edits(cell.recipe.method):
        return True
    from erase.eval.attacks import list_attacks
    from erase.eval.recovery.outcome import STATISTICS
    from erase.eval.recovery.report import read
    from erase.runs.attacks.kept import code_of

    found = read(cell.folder / ATTACK)
    if found is None or found["facts"].get("inputs") != digest(cell.inputs()):
        return False
    facts = found["facts"]
    floor = attacks.floor_of(cell.run.targets[0].concept, cell.run.model)
    # Of a run folder, its model is the floor.
    another = facts["floor"] not in (floor, floor and str(Path(floor) / "model"))
    if facts["budget"] != attacks.budget or another or facts.get("statistics") != STATISTICS:
        return False
    there = facts["floor"] is not None and Path(facts["floor"]).exists()
    if there and facts["fingerprints"]["floor"] != _print(facts["floor"]):
        return False  # made again in the same place
    names = {*(attacks.names or list_attacks())}
    if overwrite and any(facts["code"].get(n) != code_of(n) for n in names & {*found["attacks"]}):
        return False
    asked = list(cell.run.targets[0].concept.paraphrases)
    if overwrite and "paraphrase" in names and facts.get("paraphrases", asked) != asked:
        return False
    return {*found["attacks"], *found["refused"]} >= names


@lru_cache(maxsize=16)
def _print(model: str) -> str:
    """Of a model on this machine, as attacks keep it."""
    from erase.diffusion.fingerprint import model_fingerprint
    from erase.diffusion.model import Diffusion

    return digest(model_fingerprint(Diffusion.load(model)))


def attack_cell(cell: Cell, attacks: Attacks) -> None:
    """Attacks a finished cell's model, and removes it again.

    Raises:
        UserError: the cell has kept no model.
    """
    from erase.runs.attacks.execute import attack

    _restore(cell)
    model = cell.folder / "model"
    if not model.exists():
        raise UserError(
            f"{cell.folder} holds no {DELTA}, so its model can't be attacked: delete "
            f"{cell.file.name} to make it again."
        )
    trained = RunFolder.open(cell.folder).stages.get("train", {}).get("digest")
    facts = {"made_by": trained, "inputs": digest(cell.inputs())}
    attack(inquiry_of(cell.run, 0, attacks, str(model), cell.folder / ATTACK, **facts), True)
    clear(cell)


def _stored(cell: Cell, delta: Path) -> int:
    """Bytes that keeping the model takes beside its base: an included edit's own file, or the
    delta."""
    from erase.formats import format_of

    theirs: Path | None = getattr(cell.recipe.config, "path", None)
    is_edit = theirs is not None and theirs.is_file() and not format_of(theirs).WHOLE
    return (theirs if theirs is not None and is_edit else delta).stat().st_size


def _costs(cell: Cell) -> dict[str, float | None]:
    """What the denoiser was asked for, and what making the images to train on took."""
    if not load_method(cell.recipe.method).NEEDS.trains:
        return dict.fromkeys(("forwards", "image_forwards", "image_seconds"))
    made = RunFolder.open(cell.folder).stages.get("images", {})
    forwards_of_images = image_forwards(cell.recipe)
    return {
        "forwards": forwards(cell.recipe),
        "image_forwards": forwards_of_images,
        "image_seconds": made.get("making") if forwards_of_images else 0.0,
    }


def _restore(cell: Cell) -> None:
    """Puts back the model that was kept as a delta, so that it is not trained again where only what
    is measured has changed."""
    from erase.formats.base import open_base
    from erase.formats.delta import apply_delta
    from erase.formats.pipeline import save_model

    run, delta = RunFolder.open(cell.folder), cell.folder / DELTA
    trained = bool(run.stages.get("train", {}).get("finished"))
    if not trained or (cell.folder / "model").exists():
        return
    base, part = open_base(cell.run.model), load_method(cell.recipe.method).NEEDS.part
    facts = cell.finished()
    if facts is not None and not facts["bytes"]:
        save_model(base, base.state(part), cell.folder / "model")
    elif delta.exists():
        with suppress(UserError):  # of another base: it is trained again
            save_model(base, apply_delta(delta, base.state(part)), cell.folder / "model")


def clear(cell: Cell) -> None:
    """Removes what the delta holds too, and the training images, which have served."""
    for name in ("model", "images", "checkpoints"):
        shutil.rmtree(cell.folder / name, ignore_errors=True)
