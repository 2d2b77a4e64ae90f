"""What a run will be measured with, before there are images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from erase.eval.instruments.choice import UNNAMED, Instruments
from erase.eval.instruments.judges import Answer, Pixels
from erase.eval.instruments.targets import Target
from erase.eval.metrics import Tried, list_metrics
from erase.eval.metrics.binding import Binding
from erase.eval.metrics.classifier import Classifier
from erase.eval.metrics.entanglement import Entanglement
from erase.eval.metrics.fidelity import FidelityMetric
from erase.eval.metrics.prior_mass import PriorMass
from erase.eval.report.opening import TRIED, Opened, open_instruments
from erase.prompts.concept import load_concept
from erase.runtime.errors import UserError
from tests.eval.synthetic import ColourFeatures, ColourJudge

CHURCH, TRUCK = load_concept("mini/church"), load_concept("mini/truck")


class Patient(ColourJudge):
    """Looks at noise as well."""

    def classify(self, images: Sequence[Pixels]) -> list[Answer]:
        assert {np.asarray(image).shape for image in images} == {(16, 16, 3)}
        self.seen += len(images)
        return [(self.labels[0], 1.0)] * len(images)


def judge(spec: str, fetched: bool) -> Patient:
    return Patient(("church",), {}, (0, 0), spec, {"sha256": "ab"} if fetched else {})


def test_every_metric_is_opened_and_those_with_a_network_can_be_timed() -> None:
    opened = open_instruments(CHURCH, TRUCK, "mini", UNNAMED, [])
    assert len(opened.metrics) == len(list_metrics())
    untimed = {type(metric) for metric in opened.metrics if not isinstance(metric, Tried)}
    assert untimed == {Binding, Entanglement, PriorMass}  # they take what others have looked at
    assert opened.seconds(32) > 0 and opened.unfetched == []


def test_a_trial_shows_each_network_the_images_once() -> None:
    features, both, absent = ColourFeatures(), judge("here", True), judge("elsewhere", False)
    judges = {"object": both, "style": both, "mood": absent}
    metrics = (
        Classifier(judges, Target("object", "church", "truck")),
        FidelityMetric(features),
    )
    opened = Opened(metrics)
    assert opened.seconds(16) > 0
    assert (both.seen, absent.seen, features.seen) == (TRIED, 0, TRIED)
    assert opened.unfetched == ["elsewhere"]


def test_what_can_not_be_opened_is_one_sentence() -> None:
    with pytest.raises(UserError, match="'nowhere' is not a feature network"):
        open_instruments(CHURCH, TRUCK, "mini", Instruments(features="nowhere"), [])
