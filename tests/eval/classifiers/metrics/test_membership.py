"""The paper's attack, against an SVM called by hand and two points whose border is known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import SVC

from erase.eval.classifiers.evidence import Case, Part, Side, confidence
from erase.eval.classifiers.metrics import membership
from tests.eval.classifiers.models import models


def sides(**p: list[float]) -> tuple[Case, Side]:
    """Two classes, the label always 0, with these probabilities."""
    parts: dict[Part, np.ndarray] = {part: np.array(v) for part, v in p.items()}  # type: ignore[misc]
    logits = {
        part: np.stack([np.log(v / (1 - v)), 0 * v], 1).astype(np.float32)
        for part, v in parts.items()
    }
    labels = {part: np.zeros(len(v), np.int64) for part, v in parts.items()}
    return Case("random", ("a", "b"), labels), Side("unlearned", logits)


def test_two_points_have_their_border_in_the_middle() -> None:
    case, side = sides(retain=[0.9], test=[0.3], forget=[0.59, 0.61, 0.1, 0.95, 0.5])
    [found] = membership.measure(case, side, [])
    assert found.value == 3 / 5  # below 0.6
    assert found.n == 5
    assert found.detail == "attack trained on 1 retained and 1 test samples"


@pytest.mark.parametrize("kind", ["random", "class"])
def test_it_is_the_svm_that_the_paper_calls(kind: str) -> None:
    # As many retained as test samples here, so that nothing is left to draw.
    made = models(kind)
    count = len(made.case.labels["test"])
    keep: dict[Part, slice] = {"retain": slice(count), "test": slice(None), "forget": slice(None)}
    case = Case(kind, made.case.classes, {p: made.case.labels[p][s] for p, s in keep.items()})
    side = Side("x", {p: made.unlearned.logits[p][s] for p, s in keep.items()})
    p = {part: confidence(side.logits[part], case.labels[part]) for part in keep}
    x = np.concatenate([p["retain"], p["test"]]).reshape(-1, 1)
    y = np.concatenate([np.ones(count), np.zeros(count)])
    clf = SVC(C=3, gamma="auto", kernel="rbf").fit(x, y)
    expected = 1 - clf.predict(p["forget"].reshape(-1, 1)).mean()
    assert membership.measure(case, side, [])[0].value == pytest.approx(expected)


def test_the_groups_are_of_one_size_and_the_draw_is_the_seeds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = models()
    [found] = membership.measure(made.case, made.base, [])
    assert found.detail == "attack trained on 120 retained and 120 test samples"
    assert membership.measure(made.case, made.base, []) == [found]
    monkeypatch.setattr(membership, "MOST", 50)
    [capped] = membership.measure(made.case, made.base, [])
    assert "50 retained and 50 test samples, the most" in capped.detail


def test_without_test_samples_it_says_so() -> None:
    case, side = sides(retain=[0.9], forget=[0.5])
    [found] = membership.measure(case, side, [])
    assert (found.value, found.reason) == (None, "no test samples")


@pytest.mark.parametrize("seed", range(4))
def test_an_attack_without_anything_to_tell_apart_is_marked(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alike = {part: (1 - rng.beta(0.3, 3, 200)).tolist() for part in ("retain", "test")}
    case, side = sides(**alike, forget=rng.uniform(0.001, 0.02, 60).tolist())
    [found] = membership.measure(case, side, [])
    assert found.value is not None and found.note.startswith("chance: ")


def test_an_attack_that_any_fifth_of_its_samples_turns_over_is_marked() -> None:
    # Told apart at the upper end alone: far below it, the few samples there are decide.
    rng = np.random.default_rng(1)
    retain = [*rng.uniform(0.97, 0.999, 260), *rng.uniform(0.3, 0.9, 40)]
    test = [*rng.uniform(0.90, 0.97, 260), *rng.uniform(0.3, 0.9, 40)]
    case, side = sides(retain=retain, test=test, forget=[0.001] * 50)
    [found] = membership.measure(case, side, [])
    told = "chance: attacks on a fifth of its training samples each find 0 %–100 %"
    assert found.note.replace("\N{NO-BREAK SPACE}", " ") == told


def test_an_attack_that_has_something_to_go_by_keeps_its_interval() -> None:
    made = models("random")
    rng = np.random.default_rng(0)
    retain, test = rng.uniform(0.9, 0.999, 100), rng.uniform(0.3, 0.8, 100)
    case, side = sides(retain=[*retain], test=[*test], forget=[*rng.uniform(0.3, 0.8, 40)])
    [found] = membership.measure(case, side, [])
    assert (found.value, found.note) == (1.0, "") and found.low is not None
    [own] = membership.measure(made.case, made.base, [])
    assert own.note == ""
