"""The run folder: what is finished, what changed since, and who is writing."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erase.formats.export import UNKNOWN, Origin
from erase.runtime import processes
from erase.runtime.errors import UserError, clipped, nearest, reason
from erase.runtime.files import digest, write_json
from erase.runtime.locks import alone_in
from erase.runtime.machine import peak_memory_mb, reset_peak_memory
from erase.runtime.notes import note

CONCEPTS = "concepts/*/report.*"
"""The reports of several concepts; what attacks have found lies beside them."""
OUTPUTS: Mapping[str, tuple[str, ...]] = {
    "images": ("images",),
    "mask": ("mask.safetensors",),
    "train": ("checkpoints", "train.jsonl", "model", "previews", "tracking"),
    "base": ("eval/base", "eval/base2"),
    "erased": ("eval/erased",),
    "eval": ("report.json", "report.html", "report.md", "report.csv", CONCEPTS),
}
"""Stages in their order, with what each of them writes into the run folder, as patterns."""

OPTIONAL = ("checkpoints", CONCEPTS, "previews", "tracking")
"""Outputs that are not there in every finished run."""

SAID = {
    "requests": "the judged prompts, their seeds or how many images they have",
    "code": "the network's code",
}
"""What stages read, in words where its name is ours."""

UPSTREAM: Mapping[str, tuple[str, ...]] = {
    "images": (),
    "mask": ("images",),
    "train": ("images", "mask"),
    "base": (),
    "erased": ("train",),
    "eval": ("base", "erased"),
}
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "images": ("images",),
    "mask": ("mask",),
    "train": ("train",),
    "generate": ("base", "erased"),
    "eval": ("eval",),
}
"""The stages as the command line names them."""


@dataclass(frozen=True)
class Graph:
    """The stages of a kind of run.

    Attributes:
        outputs: the stages in their order, with what each of them writes into the run folder.
        upstream: by stage, those whose results it reads.
        commands: the stages as the command line names them.
        optional: outputs that are not there in every finished run.
        program: the command that does them.
        keyed: stages whose results say themselves what they were made of, so that those which still
            hold are taken up again.
    """

    outputs: Mapping[str, tuple[str, ...]]
    upstream: Mapping[str, tuple[str, ...]]
    commands: Mapping[str, tuple[str, ...]]
    optional: Collection[str] = ()
    program: str = "erase"
    keyed: Collection[str] = ()


ERASING = Graph(OUTPUTS, UPSTREAM, COMMANDS, OPTIONAL)
"""Of a run that erases from a diffusion model."""

RECORD = "run.json"
MADE = ("device", "processes", "deterministic", "versions")
"""Facts of a run that may be others in its next sitting: a stage keeps those of its own."""


def check_stages(names: Sequence[str], graph: Graph = ERASING) -> None:
    """Refuses names that are no stage's.

    Raises:
        UserError: naming the nearest one.
    """
    for name in names:
        if name not in graph.commands:
            raise UserError(
                f"There is no stage '{clipped(name)}': choose from {', '.join(graph.commands)}."
                f"{nearest(name, graph.commands)}"
            )


@dataclass(frozen=True)
class Plan:
    """What each stage would read, hashed; a stage is redone only when its own inputs changed.

    Attributes:
        inputs: by stage, what it reads besides the results of earlier stages.
        graph: the stages.
    """

    inputs: Mapping[str, Mapping[str, Any]]
    graph: Graph = ERASING

    def digests(self) -> dict[str, str]:
        """By stage, the hash of its inputs and of those of the stages before it."""
        found: dict[str, str] = {}
        for stage in self.graph.outputs:
            before = {s: found[s] for s in self.graph.upstream[stage]}
            found[stage] = digest({"inputs": self.inputs[stage], "before": before})
        return found


@dataclass(frozen=True)
class RunFolder:
    """A run folder and its ``run.json``; see the README for its layout."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)
    graph: Graph = ERASING

    @classmethod
    def open(cls, path: Path, graph: Graph = ERASING) -> RunFolder:
        """Opens a folder that may not exist yet.

        Raises:
            UserError: the path is a file, or holds something else than a run.
        """
        file = path / RECORD
        if file.exists():
            facts = read_facts(file)
            if ("classifier" in facts) != (graph.program != ERASING.program):
                kind = "a classifier's run" if "classifier" in facts else "no classifier's run"
                raise UserError(f"{path} holds {kind}: choose another folder.")
            return cls(path, facts, graph)
        if path.exists() and not path.is_dir():
            raise UserError(f"--out {path} is a file: give a folder.")
        if path.is_dir() and any(not p.name.startswith(".") for p in path.iterdir()):
            raise UserError(
                f"--out {path} holds files that are not from a run: choose another folder."
            )
        return cls(path, graph=graph)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other runs from writing here; of several processes the first one holds the lock.

        Raises:
            UserError: another process does already.
        """
        with alone_in(self.path):
            yield

    def check_read(self, places: Iterable[Path]) -> None:
        """Refuses to read what the stages write, and would remove before it is read.

        Args:
            places: files and folders that the run is given.

        Raises:
            UserError: one lies among what a stage writes.
        """
        written = [
            (self.path / name.partition("/*")[0]).resolve()
            for own in self.graph.outputs.values()
            for name in own
        ]
        for place in places:
            if any(place.resolve().is_relative_to(own) for own in written):
                raise UserError(
                    f"{place} lies in --out {self.path}, where this run would replace it: copy it "
                    "elsewhere, or choose another --out."
                )

    @property
    def stages(self) -> dict[str, Any]:
        """Finished stages: hash, seconds, peak memory."""
        found: dict[str, Any] = self.facts.setdefault("stages", {})
        return found

    def finished(self, stage: str) -> bool:
        """Whether the stage's results are there and current (``reconcile`` has been called)."""
        from erase.images.files import missing

        places = [self.path / n for n in self.graph.outputs[stage] if n not in self.graph.optional]
        there = all(p.exists() for p in places) and not any(map(missing, places))
        return bool(self.stages.get(stage, {}).get("finished")) and there

    def left(self, wanted: Sequence[str], stale: Collection[str] = ()) -> list[str]:
        """Those of the wanted stages that are not finished, or that are stale and done anew."""
        return [s for s in wanted if s in stale or not self.finished(s)]

    def size(self, stage: str) -> int:
        """Bytes that a stage's results, whole or in part, take on the disk."""
        places = [p for name in self.graph.outputs[stage] for p in self.path.glob(name)]
        files = [f for p in places for f in (p.rglob("*") if p.is_dir() else (p,))]
        return sum(f.stat().st_size for f in files if f.is_file())

    def reconcile(self, plan: Plan, wanted: Sequence[str], overwrite: bool) -> None:
        """Removes what changed inputs made out of date; ``changed`` says what is refused."""
        for stage in self.changed(plan, wanted, overwrite):
            self.discard(stage)

    def changed(self, plan: Plan, wanted: Sequence[str], overwrite: bool) -> list[str]:
        """The begun stages whose inputs are no longer what the plan says.

        Raises:
            UserError: inputs of a begun stage changed, which has left something, and ``overwrite``
                is off.
        """
        digests = plan.digests()
        changed = [
            s
            for s in self.graph.outputs
            if s in self.stages and self.stages[s].get("digest") != digests[s]
        ]
        lost = [s for s in changed if self._holds(s)]
        if lost and not overwrite:
            what = sorted(
                {
                    key
                    for s in changed
                    for key in {*plan.inputs[s], *self.stages[s].get("inputs", {})}
                    if json.loads(json.dumps(plan.inputs[s].get(key)))
                    != self.stages[s].get("inputs", {}).get(key)
                }
            )
            kept = [s for s in changed if s not in wanted]
            removed = (
                f"remove what they made and redo {', '.join(wanted)}" if kept else "redo those"
            )
            told = ", ".join(SAID.get(key, key) for key in what)
            raise UserError(
                f"The inputs of {self.path} changed ({told or 'earlier stages'}), "
                f"which affects the stages {', '.join(changed)}: add --overwrite to {removed}, "
                "or choose another --out."
            )
        for stage in wanted:
            for before in self.graph.upstream[stage]:
                current = self.finished(before) and before not in changed
                if before not in wanted and not current:
                    raise UserError(
                        f"The stage {stage} needs {before}, which is not finished in {self.path}: "
                        f"{self._remedy(before)} first."
                    )
        return changed

    def _remedy(self, stage: str) -> str:
        command = next(c for c, s in self.graph.commands.items() if stage in s)
        if self.graph is ERASING:
            return f"run 'erase {command}' or 'erase run'"
        return f"run '{self.graph.program} --stages {command}'"

    def _holds(self, stage: str) -> bool:
        """Whether a begun stage has left something to overwrite: a report that was not finished is
        none."""
        there = stage != "eval" and any(
            (self.path / name).exists() for name in self.graph.outputs[stage]
        )
        return bool(self.stages[stage].get("finished")) or there

    def discard(self, stage: str) -> None:
        """Removes a stage's results, but keyed ones; its record goes last, so that a kill leaves it
        to redo."""
        self.stages[stage]["finished"] = False
        self.save()
        for name in self.graph.outputs[stage] if stage not in self.graph.keyed else ():
            for target in list(self.path.glob(name)):
                if target.is_dir():
                    shutil.rmtree(target)
                else:
                    target.unlink()
        del self.stages[stage]
        self.save()

    @contextmanager
    def stage(self, name: str, plan: Plan) -> Iterator[dict[str, Any]]:
        """Records a stage as begun, then as finished with its time and peak memory.

        Its seconds are those of all sittings. A sitting that was killed has not told its own:
        ``worked``, the seconds that went into what is kept, is the least that it took.

        Yields:
            A dict that takes further facts about the stage, ``worked`` among them; with ``partly``
            the stage is only begun.
        """
        earlier = self.stages.get(name, {})
        # One that was finished is made anew.
        begun = not earlier.get("finished", False)
        record = {
            "digest": plan.digests()[name],
            "inputs": json.loads(json.dumps(plan.inputs[name])),
            "finished": False,
            "seconds": float(earlier.get("seconds", 0.0)) if begun else 0.0,
            "made": {key: self.facts[key] for key in MADE if key in self.facts},
        }
        self.stages[name] = record
        self.save()
        reset_peak_memory()
        began = time.perf_counter()
        try:
            yield record
            record["finished"] = not record.pop("partly", False)
        finally:
            seconds = record["seconds"] + time.perf_counter() - began
            record["seconds"] = round(max(seconds, record.pop("worked", 0.0)), 2)
            record["peak_memory_mb"] = peak_memory_mb()
            self.save()

    def save(self) -> None:
        """Writes ``run.json``; of several processes the first one does."""
        if processes.is_main():
            write_json(self.path / RECORD, self.facts)


def read_facts(file: Path) -> dict[str, Any]:
    """The content of a ``run.json``.

    Raises:
        UserError: unreadable, or not a run's.
    """
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} can't be read ({reason(error)}): choose another --out.") from error
    # A comparison's cells keep facts of the same form, with plain values under other keys.
    parts = ("stages", "given", "model", "recipe") if file.name == RECORD else ("stages",)
    whole = isinstance(facts, dict) and all(isinstance(facts.get(p, {}), dict) for p in parts)
    if not whole or not all(map(_is_record, facts.get("stages", {}).values())):
        raise UserError(f"{file} is not from a run, or is damaged: choose another --out.")
    found: dict[str, Any] = facts
    return found


def model_of(named: str) -> str:
    """The model that a name stands for: of a run folder the erased one, anything else as it is.

    Raises:
        UserError: a run that has no model yet.
    """
    run = Path(named)
    if not (run / RECORD).is_file():
        return named
    from erase.formats.folder import index_of

    if index_of(run):
        return named
    if not index_of(run / "model"):
        raise UserError(f"The run {named} has no model yet: finish it, or name another model.")
    note(f"Using {run / 'model'}, the model that the run {named} made.")
    return str(run / "model")


def base_of(model: str) -> Origin:
    """What a run's model was erased from, as the run was told; nothing of any other model."""
    record = Path(model).parent / RECORD
    if not Path(model).is_dir() or not record.is_file():
        return UNKNOWN
    told = read_facts(record).get("model", {})
    return Origin(told.get("source"), (told.get("fingerprint") or {}).get("denoiser"))


def _is_record(stage: object) -> bool:
    """Whether a value is what ``RunFolder.stage`` records."""
    return (
        isinstance(stage, dict)
        and isinstance(stage.get("inputs", {}), dict)
        and isinstance(stage.get("seconds", 0.0), (int, float))
    )
