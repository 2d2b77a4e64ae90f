"""Binding on tables counted by hand, and how often its interval holds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom

from erase.eval.instruments.choice import Instruments
from erase.eval.instruments.setting import Setting
from erase.eval.instruments.targets import Target
from erase.eval.metrics.binding import NO_OTHERS, NONE, Binding, binding, build
from erase.eval.metrics.classifier import BUNDLED, Classifier
from erase.eval.recognition import NO_JUDGE
from erase.eval.stats.intervals import share
from tests.eval.metrics.test_classifier import ROWS, TARGET, row
from tests.eval.synthetic import CHURCH, TRUCK, judges


def table(both: int, first: int, second: int, none: int) -> list[tuple[bool, bool]]:
    cells = ((True, True), (True, False), (False, True), (False, False))
    return [c for c, n in zip(cells, (both, first, second, none), strict=True) for _ in range(n)]


def test_a_table_counted_by_hand() -> None:
    found = binding(table(7, 1, 1, 1))
    # Both in 0.7, each in 0.8: 0.7 - 0.64.
    assert (found.value, found.n) == (pytest.approx(0.06), 10)
    assert binding(table(0, 5, 5, 0)).value == pytest.approx(-0.25)
    assert binding(table(5, 0, 0, 5)).value == pytest.approx(0.25)
    assert binding(table(20, 5, 20, 5)).value == pytest.approx(0)
    assert binding([]).reason == NONE


def test_where_everything_is_right_the_interval_says_what_the_images_can() -> None:
    found = binding(table(100, 0, 0, 0))
    assert found.value == 0 and found.low == pytest.approx(0, abs=1e-4)
    # All that could move it is p₀₀, of which none in 100 were seen.
    assert found.high == pytest.approx(beta.ppf(0.975, 0.5, 101.5), rel=0.05)
    assert 0.02 < found.high < 0.03
    more = binding(table(1000, 0, 0, 0))
    assert more.high == pytest.approx(found.high / 10, rel=0.1)


def test_where_all_cells_are_full_it_is_the_plain_bootstrap() -> None:
    pairs = table(140, 20, 20, 20)
    rng = np.random.default_rng(5)
    x = np.array(pairs, float)[rng.integers(len(pairs), size=(4000, len(pairs)))]
    plain = np.percentile(x.prod(2).mean(1) - x.mean(1).prod(1), [2.5, 97.5])
    found = binding(pairs)
    assert (found.low, found.high) == pytest.approx(plain, abs=0.006)


def test_the_interval_holds_where_one_image_in_a_hundred_fails_whole() -> None:
    """A plain bootstrap holds in 62 % of such samples: whenever none of them failed, it is 0–0."""
    held, true = 0.0, 0.01 * 0.99
    for k in range(8):
        found = binding(table(100 - k, 0, 0, k))
        assert found.low is not None and found.high is not None
        held += binom.pmf(k, 100, 0.01) * (found.low <= true <= found.high)
    assert held > 0.95


def test_figures_of_judged_images() -> None:
    metric = Binding(Classifier(judges(), TARGET))
    one, rest = metric.score(ROWS)
    # Retained: object right in 4 of 5, style in 3 of 5, both in 3 of 5.
    assert (one.value, one.n) == (pytest.approx(3 / 5 - 12 / 25), 5)
    kept = share(3, 4)
    assert kept is not None and (rest.value, rest.n, rest.low) == (0.75, 4, kept.low)
    assert metric.score(ROWS[4:])[1].reason == "not measured: no forget images"
    alone = [row("retain", "truck", "truck")] * 3
    assert Binding(Classifier({"object": judges()["object"]}, TARGET)).score(alone)[0].reason == (
        NO_OTHERS
    )


def test_other_judges_are_not_opened_again() -> None:
    setting = Setting(CHURCH, TRUCK, "any", [], Instruments("torchvision:resnet50"))
    assert {f.reason for f in build(setting).score([])} == {BUNDLED}
    none = build(Setting(CHURCH, TRUCK, "any", []))
    assert {f.reason for f in none.score([])} == {NO_JUDGE} and none.facts == {}
    injected = build(Setting(CHURCH, TRUCK, "any", [], judges=judges()))
    assert injected.classifier.target == Target("object", "church", "truck")
