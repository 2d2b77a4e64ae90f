"""What is nearest to the forgotten samples: by retrained models' answers, or by a shared name."""

from __future__ import annotations

import numpy as np
import pytest

from erase.classifiers.data import load_data
from erase.eval.classifiers.evidence import Side
from erase.recipes.classifier import load_recipe
from erase.runs.classifiers.evidence import nearest_samples
from erase.runs.classifiers.run import make_run


@pytest.mark.parametrize("spec", ["cell:church/ink", "cell:ink/church"])
def test_a_cell_has_those_that_share_one_name(spec: str) -> None:
    run = make_run("cnn", "mini", spec, load_recipe("salun"), device="cpu")
    near = nearest_samples(run, [])
    test = np.array(run.split.test)
    axes = {name: axis.test.numpy()[test] for name, axis in run.data.axes.items()}
    names = {name: axis.names for name, axis in run.data.axes.items()}
    church = axes["object"] == names["object"].index("church")
    ink = axes["style"] == names["style"].index("ink")
    assert set(near) == {"church, not ink", "ink, not church"}
    assert set(near["church, not ink"]) == set(np.flatnonzero(church & ~ink))
    assert set(near["ink, not church"]) == set(np.flatnonzero(ink & ~church))


def test_a_class_has_those_that_retrained_models_take_it_for() -> None:
    run = make_run("cnn", "mini", "class:church", load_recipe("salun"), device="cpu")
    classes = load_data("mini").classes
    sure = np.zeros((len(run.split.forget), len(classes)), np.float32)
    for rank, name in enumerate(("truck", "radio", "parachute", "trumpet")):
        sure[:, classes.index(name)] = 4.0 - rank
    sure[:, classes.index("church")] = 9.0
    near = nearest_samples(run, [Side("retrain-0", {"forget": sure})])
    assert list(near) == ["truck", "radio", "parachute"]
    labels = run.data.test.labels.numpy()[np.array(run.split.test)]
    assert set(labels[near["radio"]]) == {classes.index("radio")}
    assert len(near["radio"]) == (labels == classes.index("radio")).sum()
    assert nearest_samples(run, []) == {}


def test_samples_drawn_at_random_have_no_neighbours() -> None:
    run = make_run("cnn", "mini", "random:0.1", load_recipe("salun"), device="cpu")
    assert nearest_samples(run, []) == {}
