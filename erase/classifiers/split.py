"""Which samples a model is trained on, which it shall forget, and which judge it.

One ``Split`` is the only source of numbers for the base, for retraining and for unlearning. Where
each draws its own, as in the published code, a tenth of the samples to forget was never trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erase.classifiers.samples import Data
from erase.runtime.errors import UserError, clipped, nearest, reason
from erase.runtime.files import write_json
from erase.runtime.seeding import generator
from erase.runtime.tables import read_text

VALIDATION = 0.1
"""Share of each class that is held out of training."""
ATTACK = 0.5
"""Share of the test samples that a membership attack is fitted and tried on, and nothing else."""
KINDS = ("random", "class", "cell", "indices", "flipped")
"""Ways to say what is forgotten; ``erase classifier run --help`` explains them."""


@dataclass(frozen=True)
class Split:
    """Numbers of samples, sorted; ``train``, ``validation``, ``forget`` and ``retain`` count in the
    training samples of the data, the others in its test samples.

    Attributes:
        spec: what is forgotten, as the user named it.
        seed: of the draws.
        data: digest of the data.
        train: what the base is trained on: ``forget`` and ``retain`` together.
        validation: held out; settings are chosen on it.
        test: judges the models; without ``forgotten``.
        attack: test samples that membership attacks alone see.
        forgotten: test samples of a class that is forgotten whole; else empty.
        flips: label that a training sample has been given on purpose, by its number.
    """

    spec: str
    seed: int
    data: str
    train: tuple[int, ...]
    validation: tuple[int, ...]
    forget: tuple[int, ...]
    retain: tuple[int, ...]
    test: tuple[int, ...]
    attack: tuple[int, ...]
    forgotten: tuple[int, ...] = ()
    flips: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.forget or not self.retain:
            which = "nothing" if not self.forget else "everything"
            raise UserError(
                f"'{clipped(self.spec)}' forgets {which}: leave something to forget and something "
                "to retain."
            )
        own = [*self.forget, *self.retain]
        apart = len({*own, *self.validation}) == len(own) + len(self.validation)
        if sorted(own) != list(self.train) or not apart:
            raise UserError(
                "The split is damaged: a sample stands in two of forget, retain and validation, or "
                "in none."
            )

    @property
    def kind(self) -> str:
        """One of ``KINDS``."""
        return self.spec.partition(":")[0]

    def digest(self) -> str:
        """Hex SHA-256 of all numbers."""
        return hashlib.sha256(json.dumps(_content(self), sort_keys=True).encode()).hexdigest()

    def labels(self, data: Data) -> Tensor:
        """int64 (N,): the training samples' labels, those flipped on purpose included."""
        found = data.train.labels.clone()
        for number, label in self.flips.items():
            found[number] = label
        return found

    def save(self, path: Path) -> None:
        """Writes ``split.json``."""
        write_json(path, {**_content(self), "sha256": self.digest()})


def _content(split: Split) -> dict[str, Any]:
    return {**vars(split), "flips": {str(k): v for k, v in sorted(split.flips.items())}}


def load_split(path: Path, data: Data) -> Split:
    """Reads what ``save`` wrote.

    Raises:
        UserError: not a split, changed since, or of other data.
    """
    try:
        content = json.loads(read_text(path, "The split"))
        stated = content.pop("sha256")
        flips = {int(k): int(v) for k, v in content.pop("flips").items()}
        numbers: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in content.items()
        }
        split = Split(**numbers, flips=flips)
        whole = stated == split.digest()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is not a split ({reason(error)}): give a split.json that a run wrote."
        ) from error
    if not whole:
        raise UserError(f"{path} was changed after it was written: give the split as it was.")
    if split.data != data.digest():
        raise UserError(
            f"{path} is a split of other data than {data.spec}: give the data it was made of."
        )
    return split


def make_split(
    data: Data,
    forget: str,
    seed: int = 0,
    *,
    train: int | None = None,
    validation: float = VALIDATION,
    attack: float = ATTACK,
) -> Split:
    """Draws a split.

    Args:
        data: with K classes.
        forget: ``random:SHARE`` of the training samples; ``class:NAME``; ``cell:A/B``, the samples
            that two axes name so; ``indices:FILE``, numbers of training samples, one a line;
            ``flipped:SHARE``, which are given a wrong label first.
        seed: of the draws.
        train: samples to train on, as many of each class; None for all that are not held out.
        validation: share of each class to hold out, in [0, 1).
        attack: share of the test samples for membership attacks, in [0, 1).

    Raises:
        UserError: a spec that says nothing, or that forgets nothing or everything.
    """
    rows = data.train.labels
    held = _held_out(rows, validation, seed)
    own = [n for n in range(len(rows)) if n not in held]
    if train is not None:
        own = _fewer(own, rows, train, seed)
    chosen, flips = _chosen(data, forget, own, seed)
    kind, _, what = forget.partition(":")
    test = list(range(len(data.test.labels)))
    gone: list[int] = []
    if kind == "class":
        label = data.classes.index(what)
        gone = [n for n in test if int(data.test.labels[n]) == label]
        test = sorted({*test} - {*gone})
    apart = _part(test, attack, seed)
    return Split(
        spec=forget,
        seed=seed,
        data=data.digest(),
        train=tuple(own),
        validation=tuple(sorted(held)),
        forget=tuple(sorted(chosen)),
        retain=tuple(n for n in own if n not in chosen),
        test=tuple(n for n in test if n not in apart),
        attack=tuple(sorted(apart)),
        forgotten=tuple(gone),
        flips=flips,
    )


def _held_out(labels: Tensor, share: float, seed: int) -> set[int]:
    """A share of each class."""
    found: set[int] = set()
    for label in labels.unique().tolist():
        own = (labels == label).nonzero().reshape(-1)
        order = torch.randperm(len(own), generator=generator(seed, "validation", int(label)))
        found.update(own[order[: int(share * len(own))]].tolist())
    return found


def _fewer(own: Sequence[int], labels: Tensor, most: int, seed: int) -> list[int]:
    """``most`` of the samples, the classes taking turns."""
    order = torch.randperm(len(own), generator=generator(seed, "train")).tolist()
    turns: dict[int, int] = {}
    ranked = []
    for place in order:
        label = int(labels[own[place]])
        turns[label] = turns.get(label, 0) + 1
        ranked.append((turns[label], label, own[place]))
    if most > len(own) or most < 2:
        raise UserError(
            f"--train-samples is {most}, but {len(own)} samples can be trained on: give a number "
            "from 2 on up to that."
        )
    return sorted(number for _, _, number in sorted(ranked)[:most])


def _part(numbers: Sequence[int], share: float, seed: int) -> set[int]:
    order = torch.randperm(len(numbers), generator=generator(seed, "attack")).tolist()
    return {numbers[place] for place in order[: int(share * len(numbers))]}


def _chosen(
    data: Data, spec: str, own: Sequence[int], seed: int
) -> tuple[set[int], dict[int, int]]:
    """The samples to forget, and the labels that were flipped."""
    kind, _, what = spec.partition(":")
    if kind not in KINDS or not what:
        raise UserError(
            f"'{clipped(spec)}' does not say what to forget: give random:0.1, class:NAME, "
            f"cell:NAME/NAME, indices:FILE or flipped:0.1.{nearest(kind, KINDS)}"
        )
    if kind in ("random", "flipped"):
        count = round(_share(spec, what) * len(own))
        order = torch.randperm(len(own), generator=generator(seed, "forget")).tolist()
        chosen = {own[place] for place in order[:count]}
        if kind == "random":
            return chosen, {}
        return chosen, _flips(sorted(chosen), data, seed)
    if kind == "indices":
        return _listed(Path(what), own, len(data.train.labels)), {}
    if kind == "class":
        label = _label(data.classes, what, "class")
        return {n for n in own if int(data.train.labels[n]) == label}, {}
    return _cell(data, what, own), {}


def _share(spec: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(f"'{clipped(spec)}' has no share between 0 and 1: write random:0.1.")
    return share


def _flips(chosen: Sequence[int], data: Data, seed: int) -> dict[int, int]:
    """A wrong label for each, drawn uniformly from the others."""
    k = len(data.classes)
    steps = torch.randint(1, k, (len(chosen),), generator=generator(seed, "flips")).tolist()
    labels = data.train.labels
    return {n: (int(labels[n]) + step) % k for n, step in zip(chosen, steps, strict=True)}


def _label(names: Sequence[str], name: str, what: str) -> int:
    if name not in names:
        raise UserError(
            f"There is no {what} '{clipped(name)}': choose from {clipped(', '.join(names), 200)}."
            f"{nearest(name, names)}"
        )
    return list(names).index(name)


def _cell(data: Data, what: str, own: Sequence[int]) -> set[int]:
    """The samples with two names, one of each of two axes."""
    first, _, second = what.partition("/")
    if len(data.axes) < 2 or not second:
        raise UserError(
            f"'cell:{clipped(what)}' needs data with two kinds of labels, such as mini, and a name "
            "of each: cell:church/ink."
        )
    one, other = list(data.axes.values())[:2]
    if first in other.names:
        first, second = second, first
    a, b = _label(one.names, first, "label"), _label(other.names, second, "label")
    return {n for n in own if int(one.train[n]) == a and int(other.train[n]) == b}


def _listed(file: Path, own: Sequence[int], count: int) -> set[int]:
    """Numbers of training samples, one a line.

    Raises:
        UserError: no number, one that is not a training sample's, or one that comes twice.
    """
    text = read_text(file, "The list of samples")
    found: set[int] = set()
    trained = {*own}
    for line, entry in enumerate(filter(None, map(str.strip, text.splitlines())), 1):
        number = int(entry) if entry.isdecimal() else -1
        if number < 0:
            raise UserError(
                f"{file}, entry {line}: '{clipped(entry)}' is not the number of a sample, counted "
                "from 0."
            )
        if number >= count:
            raise UserError(
                f"{file}, entry {line}: there is no sample {number}, the last one is {count - 1}."
            )
        if number not in trained:
            raise UserError(
                f"{file}, entry {line}: sample {number} is not trained on, since it is held out "
                "for validation or left out: leave it out, or give --validation 0."
            )
        if number in found:
            raise UserError(f"{file}, entry {line}: sample {number} comes twice: list it once.")
        found.add(number)
    return found
