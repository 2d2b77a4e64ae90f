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
from erase.runtime.seeding import checked_seed, generator
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
        validation: held out; settings are chosen on it. Without a class that is forgotten whole.
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
        if not self.test:
            raise UserError(
                f"'{clipped(self.spec)}' leaves no sample to test on: give data with more test "
                "samples."
            )
        trained = [*self.forget, *self.retain]
        sides = ([*trained, *self.validation], [*self.test, *self.attack, *self.forgotten])
        once = all(len({*side}) == len(side) for side in sides)
        if sorted(trained) != list(self.train) or not once or not {*self.flips} <= {*trained}:
            raise UserError(
                "The split is damaged: a sample stands in two of its parts, or is trained on and "
                "neither forgotten nor retained."
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
    """Reads what ``save`` wrote, or a split of the user's own, which has no ``sha256``.

    Raises:
        UserError: not a split, changed since, of other data, or at odds with its ``spec``.
    """
    try:
        content = json.loads(read_text(path, "The split"))
        stated = content.pop("sha256", None)
        flips = {int(k): int(v) for k, v in content.pop("flips").items()}
        numbers: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in content.items()
        }
        split = Split(**numbers, flips=flips)
        if type(split.spec) is not str or type(split.seed) is not int:
            raise TypeError("'spec' has to be a text and 'seed' a whole number")
        whole = stated in (None, split.digest())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is not a split ({reason(error)}): give a split.json that a run wrote."
        ) from error
    if not whole:
        raise UserError(
            f"{path} was changed after it was written: give the split as it was, or, if it is "
            "meant, leave out its 'sha256'."
        )
    if split.data != data.digest():
        raise UserError(
            f"{path} is a split of other data than {data.spec}: give the data it was made of."
        )
    checked_seed(split.seed)
    sides: tuple[tuple[tuple[Any, ...], int], ...] = (
        ((*split.train, *split.validation), len(data.train.labels)),
        ((*split.test, *split.attack, *split.forgotten), len(data.test.labels)),
    )
    for side, most in sides:
        if not all(type(n) is int and 0 <= n < most for n in side):
            raise UserError(f"{path} has sample numbers that {data.spec} lacks: give its own.")
    if not all(0 <= label < len(data.classes) for label in split.flips.values()):
        raise UserError(f"{path} flips labels to classes that {data.spec} lacks: give its own.")
    _check_spec(path, split, data)
    return split


def _check_spec(path: Path, split: Split, data: Data) -> None:
    """Refuses a split of the user's own that says something else than its numbers.

    Raises:
        UserError: names that the data lack, or samples of a class that is said to be forgotten
            whole.
    """
    kind, what = _parsed(split.spec)
    if kind == "cell":
        _cell(data, what, split.train)
    if kind != "class":
        return
    label = _label(data.classes, what)
    sides = (
        (data.train.labels, {"retain": split.retain, "validation": split.validation}),
        (data.test.labels, {"test": split.test, "attack": split.attack}),
    )
    for labels, parts in sides:
        for name, numbers in parts.items():
            if bool((labels[list(numbers)] == label).any()):
                raise UserError(
                    f"{path} forgets {split.spec}, but '{name}' holds samples of that class: take "
                    "them out, or write indices:FILE as its 'spec'."
                )


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
            that two axes name so; ``indices:FILE``, numbers of training samples, one a line, none
            of which is held out; ``flipped:SHARE``, which are given a wrong label first.
        seed: of the draws.
        train: samples to train on, as many of each class; None for all that are not held out.
        validation: share of each class to hold out, in [0, 1).
        attack: share of the test samples for membership attacks, in [0, 1).

    Raises:
        UserError: a spec that says nothing, or that forgets nothing or everything.
    """
    kind, what = _parsed(forget)
    rows: list[int] = data.train.labels.tolist()
    listed = _listed(Path(what), len(rows)) if kind == "indices" else frozenset[int]()
    held = _held_out(rows, validation, seed, listed)
    own = [n for n in range(len(rows)) if n not in held]
    if train is not None:
        own = _fewer(own, rows, train, seed, listed)
    test = list(range(len(data.test.labels)))
    gone: list[int] = []
    flips: dict[int, int] = {}
    if kind == "indices":
        chosen = listed
    elif kind == "cell":
        chosen = _cell(data, what, own)
    elif kind == "class":
        label = _label(data.classes, what)
        chosen = frozenset(n for n in own if rows[n] == label)
        held = frozenset(n for n in held if rows[n] != label)
        gone = (data.test.labels == label).nonzero().reshape(-1).tolist()
        test = sorted({*test} - {*gone})
    else:
        chosen = _drawn(own, _share(forget, what), seed, "forget")
        if kind == "flipped":
            flips = _flips(sorted(chosen), rows, len(data.classes), seed)
    apart = _drawn(test, attack, seed, "attack")
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


def _parsed(spec: str) -> tuple[str, str]:
    """What kind of thing is forgotten, and which."""
    kind, _, what = spec.partition(":")
    if kind not in KINDS or not what:
        raise UserError(
            f"'{clipped(spec)}' does not say what to forget: give random:0.1, class:NAME, "
            f"cell:NAME/NAME, indices:FILE or flipped:0.1.{nearest(kind, KINDS)}"
        )
    return kind, what


def _drawn(numbers: Sequence[int], share: float, seed: int, purpose: str) -> frozenset[int]:
    """A share of them, rounded to whole samples."""
    order = torch.randperm(len(numbers), generator=generator(seed, purpose)).tolist()
    return frozenset(numbers[place] for place in order[: round(share * len(numbers))])


def _held_out(
    labels: Sequence[int], share: float, seed: int, kept: frozenset[int]
) -> frozenset[int]:
    """A share of each class, rounded down; none of ``kept``."""
    members: dict[int, list[int]] = {}
    for number, label in enumerate(labels):
        members.setdefault(label, []).append(number)
    found: set[int] = set()
    for label, own in members.items():
        order = torch.randperm(len(own), generator=generator(seed, "validation", label)).tolist()
        free = [own[place] for place in order if own[place] not in kept]
        found.update(free[: int(share * len(own))])
    return frozenset(found)


def _fewer(
    own: Sequence[int], labels: Sequence[int], most: int, seed: int, kept: frozenset[int]
) -> list[int]:
    """``most`` of the samples, ``kept`` before the others and the classes taking turns."""
    if not max(2, len(kept)) <= most <= len(own):
        raise UserError(
            f"--train-samples is {most}, but {len(own)} samples can be trained on: give a number "
            f"from {max(2, len(kept))} up to that."
        )
    order = torch.randperm(len(own), generator=generator(seed, "train")).tolist()
    turns: dict[int, int] = {}
    ranked = []
    for number in sorted((own[place] for place in order), key=lambda n: n not in kept):
        label = labels[number]
        turns[label] = turns.get(label, 0) + 1
        ranked.append((number not in kept, turns[label], label, number))
    return sorted(number for *_, number in sorted(ranked)[:most])


def _share(spec: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UserError(
            f"'{clipped(spec)}' has no share between 0 and 1: write {spec.partition(':')[0]}:0.1."
        )
    return share


def _flips(chosen: Sequence[int], labels: Sequence[int], k: int, seed: int) -> dict[int, int]:
    """A wrong label for each, drawn uniformly from the others."""
    steps = torch.randint(1, k, (len(chosen),), generator=generator(seed, "flips")).tolist()
    return {n: (labels[n] + step) % k for n, step in zip(chosen, steps, strict=True)}


def _label(names: Sequence[str], name: str, what: str = "class") -> int:
    if name not in names:
        raise UserError(
            f"There is no {what} '{clipped(name)}': choose from {clipped(', '.join(names), 200)}."
            f"{nearest(name, names)}"
        )
    return names.index(name)


def _cell(data: Data, what: str, own: Sequence[int]) -> frozenset[int]:
    """The samples with two names, one of each of two axes, in either order."""
    first, _, second = what.partition("/")
    if len(data.axes) < 2 or not second:
        raise UserError(
            f"'cell:{clipped(what)}' needs data with two kinds of labels, such as mini, and a name "
            "of each: cell:church/ink."
        )
    (title, one), (beside, other) = list(data.axes.items())[:2]
    if first not in one.names and (first in other.names or second in one.names):
        first, second = second, first
    a, b = _label(one.names, first, title), _label(other.names, second, beside)
    both = (one.train == a) & (other.train == b)
    return frozenset(both.nonzero().reshape(-1).tolist()) & frozenset(own)


def _listed(file: Path, count: int) -> frozenset[int]:
    """Numbers of training samples, one a line.

    Raises:
        UserError: no number, one that is not a training sample's, or one that comes twice.
    """
    found: set[int] = set()
    lines = read_text(file, "The list of samples").splitlines()
    for line, entry in enumerate(map(str.strip, lines), 1):
        if not entry:
            continue
        if not (entry.isascii() and entry.isdecimal()):
            raise UserError(
                f"{file}, line {line}: '{clipped(entry)}' is not the number of a sample: list one "
                "number a line, counted from 0."
            )
        # Python refuses to read numbers of thousands of digits.
        if len(entry.lstrip("0")) > len(str(count)) or int(entry) >= count:
            raise UserError(
                f"{file}, line {line}: there is no training sample {clipped(entry)}, the last one "
                f"is {count - 1}: give a list for these data."
            )
        if int(entry) in found:
            raise UserError(f"{file}, line {line}: sample {entry} comes twice: list it once.")
        found.add(int(entry))
    return frozenset(found)
