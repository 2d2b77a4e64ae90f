"""Splits: nothing that is forgotten is seen anywhere else, and bad input is one sentence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erase.classifiers.samples import Arrays, Axis, Data
from erase.classifiers.split import Split, load_split, make_split
from erase.runtime.errors import UserError

OBJECTS, STYLES = ("church", "radio", "truck"), ("flat", "ink")


def world(each: int, tests: int = 4, shade: int = 0) -> Data:
    """Objects in styles, as many of each in each."""

    def drawn(count: int) -> tuple[Arrays, torch.Tensor, torch.Tensor]:
        cells = torch.cartesian_prod(torch.arange(3), torch.arange(2))
        thing, style = cells.repeat(count, 1).unbind(1)
        pixels = torch.full((len(thing), 1, 2, 2), shade, dtype=torch.uint8)
        return Arrays(pixels, thing), thing, style

    (train, *own), (test, *others) = drawn(each), drawn(tests)
    axes = {
        "object": Axis(OBJECTS, own[0], others[0]),
        "style": Axis(STYLES, own[1], others[1]),
    }
    return Data("world", train, test, OBJECTS, axes)


FORGET = st.one_of(
    st.sampled_from(["class:church", "class:truck", "cell:church/ink", "cell:flat/radio"]),
    st.tuples(st.sampled_from(["random", "flipped"]), st.floats(0.1, 0.9)).map(
        lambda drawn: f"{drawn[0]}:{drawn[1]}"
    ),
)
SEEDS = st.integers(0, 2**31)


def counts(data: Data, numbers: tuple[int, ...]) -> Counter[int]:
    return Counter(data.train.labels[list(numbers)].tolist())


@given(FORGET, SEEDS, st.integers(5, 30), st.floats(0, 0.4), st.floats(0, 0.8), st.booleans())
def test_what_is_forgotten_was_trained_on_and_is_nowhere_else(
    forget: str, seed: int, each: int, validation: float, attack: float, fewer: bool
) -> None:
    data = world(each)
    # A few samples of each class need not have one of a cell.
    count = 12 if fewer and not forget.startswith("cell") else None
    found = make_split(data, forget, seed, train=count, validation=validation, attack=attack)
    gone = {*found.forget}
    assert gone and found.retain
    assert {*found.train} == gone | {*found.retain}
    assert not gone & {*found.retain} and not {*found.train} & {*found.validation}
    sides = (found.test, found.attack, found.forgotten)
    assert sorted(n for side in sides for n in side) == list(range(len(data.test.labels)))
    for numbers in (*sides, found.train, found.validation, found.forget, found.retain):
        assert list(numbers) == sorted({*numbers})
    for number, label in found.flips.items():
        assert number in gone and 0 <= label < 3 and label != int(data.train.labels[number])
    assert len(found.flips) == (len(gone) if found.kind == "flipped" else 0)
    labels = found.labels(data)
    changed = (labels != data.train.labels).nonzero().reshape(-1).tolist()
    assert changed == sorted(found.flips)
    assert found == make_split(
        data, forget, seed, train=count, validation=validation, attack=attack
    )


@given(SEEDS, st.integers(5, 40), st.floats(0, 0.9))
def test_validation_takes_the_same_share_of_each_class(seed: int, each: int, share: float) -> None:
    data = world(each)
    found = make_split(data, "random:0.5", seed, validation=share)
    taken = int(share * 2 * each)
    assert counts(data, found.validation) == Counter({k: taken for k in range(3) if taken})
    assert sorted((*found.train, *found.validation)) == list(range(6 * each))


@given(SEEDS, st.integers(6, 30))
def test_fewer_samples_are_as_many_of_each_class(seed: int, count: int) -> None:
    data = world(8)
    found = make_split(data, "random:0.5", seed, train=count)
    own = counts(data, found.train)
    assert sum(own.values()) == count and max(own.values()) - min(own.values()) <= 1


def test_what_the_base_sees_does_not_depend_on_what_is_forgotten() -> None:
    data = world(20)
    forgets = ("random:0.1", "random:0.5", "class:radio", "cell:church/ink", "flipped:0.2")
    assert len({make_split(data, forget, 3).train for forget in forgets}) == 1
    assert make_split(data, "random:0.1", 3).train != make_split(data, "random:0.1", 4).train


def test_the_share_is_one_of_the_training_samples() -> None:
    found = make_split(world(20), "random:0.1", validation=0.1)
    assert (len(found.train), len(found.validation), len(found.forget)) == (108, 12, 11)
    assert (len(found.test), len(found.attack)) == (12, 12)


def test_a_class_leaves_validation_and_test_as_well() -> None:
    data = world(20)
    found = make_split(data, "class:radio")
    assert counts(data, found.forget) == Counter({1: 36})
    assert 1 not in counts(data, found.retain) and 1 not in counts(data, found.validation)
    assert {int(data.test.labels[n]) for n in found.forgotten} == {1}
    assert len(found.forgotten) == 8
    judged = data.test.labels[list(found.test + found.attack)]
    assert not (judged == 1).any()


@pytest.mark.parametrize("spec", ["cell:church/ink", "cell:ink/church"])
def test_a_cell_is_one_object_in_one_style(spec: str) -> None:
    data = world(20)
    found = make_split(data, spec, validation=0.0)
    # Samples come as church flat, church ink, radio flat, …
    assert found.forget == tuple(range(1, 120, 6))
    assert found.forgotten == ()


@given(SEEDS, st.sets(st.integers(0, 59), min_size=1, max_size=30), st.floats(0, 0.9))
def test_listed_samples_are_never_held_out(
    tmp_path_factory: pytest.TempPathFactory, seed: int, listed: set[int], share: float
) -> None:
    file = tmp_path_factory.mktemp("lists") / "list.txt"
    file.write_text("\n".join(map(str, listed)) + "\n\n")
    data = world(10)
    # With all of one class's samples listed, those that are free are all that validation takes.
    found = make_split(data, f"indices:{file}", seed, train=31, validation=min(share, 0.4))
    assert {*found.forget} == listed
    assert len(found.train) == 31 and not listed & {*found.validation}


def test_a_split_comes_back_from_its_file(tmp_path: Path) -> None:
    data, file = world(10), tmp_path / "split.json"
    for forget in ("flipped:0.2", "class:radio"):
        found = make_split(data, forget, 5)
        found.save(file)
        assert load_split(file, data) == found
        content = json.loads(file.read_text())
        assert content["sha256"] == found.digest() and content["seed"] == 5
        for part in ("train", "validation", "test", "forget", "retain"):
            assert content[part] == list(getattr(found, part))


@pytest.mark.parametrize(
    ("forget", "told"),
    [
        ("random:0", "'random:0' forgets nothing"),
        ("random:1", "'random:1' forgets everything"),
        ("random:1.5", "'random:1.5' has no share between 0 and 1: write random:0.1."),
        ("random:nan", "no share between 0 and 1"),
        ("flipped:x", "no share between 0 and 1: write flipped:0.1."),
        ("random", "'random' does not say what to forget"),
        ("rnadom:0.1", "Did you mean 'random'?"),
        ("class:chruch", "There is no class 'chruch': choose from church, radio, truck. Did you "),
        ("class:ink", "There is no class 'ink'"),
        ("cell:church", "cell:church/ink"),
        ("cell:church/inc", "There is no style 'inc': choose from flat, ink. Did you mean 'ink'?"),
        ("cell:chruch/ink", "There is no object 'chruch'"),
        ("cell:ink/chruch", "There is no object 'chruch'"),
        ("cell:ink/flat", "There is no object 'flat'"),
        ("indices:nowhere.txt", "The list of samples nowhere.txt can't be read"),
    ],
)
def test_a_spec_that_says_nothing_is_one_sentence(forget: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        make_split(world(10), forget)
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "forgets nothing"),
        ("\n".join(map(str, range(60))), "forgets everything"),
        ("3\n\n60\n", "line 3: there is no training sample 60, the last one is 59"),
        ("9" * 5000, "there is no training sample 999"),
        ("3\n4\n03\n", "line 3: sample 03 comes twice"),
        ("1, 2, 3", "line 1: '1, 2, 3' is not the number of a sample"),
        ("-1", "'-1' is not the number of a sample"),
        ("1.0", "'1.0' is not the number of a sample"),
        ("²", "'²' is not the number of a sample"),
    ],
)
def test_a_list_that_fits_no_samples_is_one_sentence(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "list.txt"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        make_split(world(10), f"indices:{file}")
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("listed", "count"), [(0, 1), (0, 61), (30, 29)])
def test_as_many_samples_as_there_are_can_be_trained_on(
    tmp_path: Path, listed: int, count: int
) -> None:
    file = tmp_path / "list.txt"
    file.write_text("\n".join(map(str, range(listed))))
    forget = f"indices:{file}" if listed else "random:0.1"
    with pytest.raises(UserError, match=f"--train-samples is {count}, but .* from {listed or 2}"):
        make_split(world(10), forget, train=count)


def test_a_class_without_which_nothing_is_left_to_test_on() -> None:
    data = world(10)
    radios = (data.test.labels == 1).nonzero().reshape(-1)
    test = Arrays(data.test.images(radios).to(torch.uint8), data.test.labels[radios])
    alone = Data("world", data.train, test, OBJECTS)
    with pytest.raises(UserError, match="'class:radio' leaves no sample to test on"):
        make_split(alone, "class:radio")


def test_a_split_of_other_data_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    make_split(world(10), "random:0.1").save(file)
    for other in (world(11), world(10, shade=1), world(10, tests=5)):
        with pytest.raises(UserError, match="is a split of other data than world"):
            load_split(file, other)


def test_a_changed_or_foreign_file_is_refused(tmp_path: Path) -> None:
    data, file = world(10), tmp_path / "split.json"
    make_split(data, "flipped:0.1").save(file)
    content = json.loads(file.read_text())

    def refused(**changes: object) -> str:
        file.write_text(json.dumps({**content, **changes}))
        with pytest.raises(UserError) as caught:
            load_split(file, data)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "was changed after it was written" in refused(seed=1)
    assert "was changed after it was written" in refused(test=content["test"][1:])
    moved = {"train": content["train"][1:]}
    assert "The split is damaged" in refused(**moved)
    assert "The split is damaged" in refused(validation=content["forget"])
    assert "The split is damaged" in refused(attack=content["test"])
    assert "is not a split" in refused(more=1)
    # A split of the user's own states no digest, and must name samples that there are.
    del content["sha256"]
    last = content["train"][-1]
    kept = {k: [n for n in content[k] if n != last] for k in ("train", "retain", "forget")}
    file.write_text(json.dumps({**content, **kept, "flips": {}}))
    assert last not in load_split(file, data).train
    beyond = {k: [10**6 if n == last else n for n in content[k]] for k in kept}
    assert "has sample numbers that" in refused(**beyond, flips={})
    assert "is not a split" in refused(flips=[1])
    assert "is not a split" in refused(forget=["a", *content["forget"]])
    assert "'spec' has to be a text" in refused(spec=5)
    assert "'seed' a whole number" in refused(seed=1.5)
    assert "The seed -3 is negative" in refused(seed=-3)
    flipped = next(iter(content["flips"]))
    assert "flips labels to classes that" in refused(flips={flipped: 99})
    assert "There is no class 'nothing'" in refused(spec="class:nothing")
    assert "does not say what to forget" in refused(spec="some")
    for part in ("retain", "test"):
        of = data.train if part == "retain" else data.test
        own = data.classes[int(of.labels[content[part][0]])]
        told = refused(spec=f"class:{own}")
        assert f"forgets class:{own}, but '" in told and "holds samples of that class" in told
    for text in ("", "[]", "{}", "7", "{", "[" * 100000):
        file.write_text(text)
        with pytest.raises(UserError, match="is not a split"):
            load_split(file, data)
    with pytest.raises(UserError, match="can't be read"):
        load_split(tmp_path / "nowhere.json", data)


def test_a_sample_has_one_place() -> None:
    whole = make_split(world(10), "random:0.1")
    with pytest.raises(UserError, match="damaged"):
        Split(**{**vars(whole), "flips": {whole.validation[0]: 1}})
