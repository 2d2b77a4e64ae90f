from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.linalg import sqrtm
from torch.nn import functional as F

from erase.eval.instruments.bundled import FEATURES, FeatureNet
from erase.eval.instruments.features import mini_extractor
from erase.eval.instruments.setting import Setting
from erase.eval.metrics.fidelity import Distance, FidelityMetric, _spread, build, score
from erase.eval.pictures import read_pictures
from erase.mini.networks import save_module
from erase.runtime.errors import UserError
from tests.eval.synthetic import CHURCH, TRUCK, ColourFeatures, asked, right, write_side


def features(n: int, shift: float = 0.0, seed: int = 0, d: int = 6) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(9).normal(size=(d, d))
    return list((rng.normal(size=(n, d)) @ mix + shift).astype(np.float32))


def fid_by_hand(a: list[NDArray[np.float32]], b: list[NDArray[np.float32]]) -> float:
    x, y = np.stack(a).astype(float), np.stack(b).astype(float)
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    gap = x.mean(0) - y.mean(0)
    return float(gap @ gap + np.trace(s) + np.trace(t) - 2 * np.trace(sqrtm(s @ t).real))


def kid_by_hand(a: list[NDArray[np.float32]], b: list[NDArray[np.float32]]) -> float:
    x, y = np.stack(a).astype(float), np.stack(b).astype(float)
    n, d = x.shape

    def k(u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
        return (u @ v.T / d + 1) ** 3

    within = sum((k(z, z).sum() - np.trace(k(z, z))) / (n * (n - 1)) for z in (x, y))
    return float(within - 2 * k(x, y).mean())


def test_fid_and_kid_equal_their_definitions() -> None:
    # 40 images: one subset holds them all, so KID is the plain unbiased estimate.
    a, b = features(40, 0.3, 1), features(40, 0.0, 2)
    found = score("mini", a, b)
    assert found.fid is not None and found.kid is not None
    assert (found.fid.name, found.kid.name) == ("FID[mini]", "KID[mini]")
    assert found.fid.value == pytest.approx(fid_by_hand(a, b), rel=1e-6)
    assert found.kid.value == pytest.approx(kid_by_hand(a, b), rel=1e-6)
    assert found.kid.spread == pytest.approx(0, abs=1e-6)
    assert (found.fid.n, found.fid.reference_n, found.fid.dimensions) == (40, 40, 6)
    assert found.warning is None


def test_kid_subsets_are_seeded_and_leave_the_global_generator_alone() -> None:
    a, b = features(120, 0.3, 1), features(90, 0.0, 2)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = score("mini", a, b)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert score("mini", a, b) == first
    assert first.kid is not None
    assert first.kid.subset_size == 50
    assert first.kid.spread is not None and first.kid.spread > 0
    assert first.kid.value == pytest.approx(kid_by_hand(a[:90], b), rel=0.5)


def test_few_images_are_warned_of_or_not_measured() -> None:
    few = score("mini", features(6), features(6, seed=1))
    assert few.fid is not None
    assert few.warning is not None and "6 dimensions but only 6 images" in few.warning
    one = score("mini", features(1), features(6))
    assert one.fid is None
    assert one.reason is not None and "at least 2" in one.reason


def test_images_are_measured_once(tmp_path: Path) -> None:
    write_side(tmp_path / "images", asked("retain", right("radio", 5), 0))
    pictures = read_pictures(tmp_path / "images")
    extractor = ColourFeatures()
    metric = FidelityMetric(extractor, tmp_path / "store")
    rows = metric.measure(pictures)
    direct = extractor([np.asarray(Image.open(p.file)) for p in pictures])
    np.testing.assert_array_equal(np.stack(rows), direct)
    assert extractor.seen == 10
    again = metric.measure([*pictures, pictures[0]])
    np.testing.assert_array_equal(np.stack(again), np.stack([*rows, rows[0]]))
    assert extractor.seen == 10
    other = FidelityMetric(replace(extractor, facts={"sha256": "other"}), tmp_path / "store")
    other.measure(pictures)
    assert other.extractor is not None and other.extractor.seen == 15  # type: ignore[attr-defined]


def test_without_a_network_or_a_reference_there_is_a_reason() -> None:
    metric = build(Setting(replace(CHURCH, name="a church", kind="text"), TRUCK, "my/model", []))
    assert metric.measure([]) == []
    assert metric.distances([], []).reason == (
        "not measured: no feature network for this model's images"
    )
    named = FidelityMetric(ColourFeatures())
    assert named.distances(features(3), []).reason == "not measured: no second base set"


def test_the_bundled_network_sees_what_it_would_be_shown_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erase.runtime.files.files", lambda package: tmp_path)
    with pytest.raises(UserError, match="missing"):
        mini_extractor()
    torch.manual_seed(0)
    network = FeatureNet(3).eval()
    card = {"judge": '{"labels": ["a", "b", "c"], "size": 64}'}
    save_module(network, tmp_path / "weights" / "judges" / "features.safetensors", card)
    extractor = mini_extractor()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (side, side, 3), np.uint8) for side in (64, 96)]
    found = extractor(images)
    network = network.half().float()
    for image, row in zip(images, found, strict=True):
        x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
        x = F.interpolate(x, (64, 64), mode="bilinear", antialias=True)
        with torch.no_grad():
            np.testing.assert_allclose(row, network(x)[0].numpy(), atol=1e-5)
    assert (extractor.name, extractor.dimensions, found.shape) == ("mini", FEATURES, (2, FEATURES))
    metric = build(Setting(CHURCH, TRUCK, "mini", []))
    assert metric.facts["extractor"]["name"] == "mini"


def test_fid_and_kid_are_torch_fidelitys_on_the_same_features() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    a, b = features(50, 0.3, 1), features(50, 0.0, 2)
    found = score("inception", a, b)
    assert found.fid is not None and found.kid is not None
    sides = [torch.from_numpy(np.stack(side)) for side in (a, b)]
    statistics = [fid_features_to_statistics(side) for side in sides]
    theirs = fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert found.fid.value == pytest.approx(theirs, rel=1e-6)
    # Every subset holds all 50 images, so that none depends on the draw.
    kid = kid_features_to_metric(*sides, kid_subsets=2, kid_subset_size=50, verbose=False)
    assert found.kid.value == pytest.approx(kid["kernel_inception_distance_mean"], rel=1e-5)


def test_a_spread_of_rounding_errors_is_not_printed() -> None:
    subsets = Distance("KID[x]", -0.1, 40, 40, 64, spread=0.15)
    assert _spread(subsets) == "± 0.15 over subsets"
    assert _spread(replace(subsets, spread=3.6e-16)) == "one subset: all images"
    assert _spread(replace(subsets, spread=None)) == ""
