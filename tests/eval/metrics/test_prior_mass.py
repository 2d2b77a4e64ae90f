"""Prior mass, counted by hand in images of the empty prompt."""

from __future__ import annotations

from pathlib import Path

from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.setting import Setting
from erase.eval.metrics.classifier import BUNDLED, Classifier
from erase.eval.metrics.prior_mass import NONE, PriorMass, build
from erase.eval.pictures import Picture
from erase.eval.stats.intervals import share
from tests.eval.metrics.test_classifier import TARGET, row
from tests.eval.synthetic import CHURCH, TRUCK, judges


def test_the_share_of_the_empty_prompts_images() -> None:
    metric = PriorMass(Classifier(judges(), TARGET))
    rows = [row("empty", "", shown) for shown in ("church", "truck", "owl", "church", "truck")]
    [found] = metric.score([*rows, row("forget", "church", "church")])
    expected = share(2, 5)
    assert expected is not None
    assert (found.value, found.n, found.low) == (0.4, 5, expected.low)
    [none] = metric.score([])
    assert (none.value, none.reason) == (None, NONE)


def test_it_looks_at_the_empty_prompt_alone() -> None:
    metric = PriorMass(Classifier(judges(), TARGET))
    roles = ("forget", "retain", "neighbour", "general", "empty")
    pictures = [Picture(Path("x"), "", "set", 0, 0, "", 0, role, {}) for role in roles]
    assert [p.role for p in pictures if metric.looks_at(p)] == ["empty"]


def test_other_judges_are_not_opened_again() -> None:
    setting = Setting(CHURCH, TRUCK, "any", [], Instruments("torchvision:resnet50"))
    assert [f.reason for f in build(setting).score([])] == [BUNDLED]
