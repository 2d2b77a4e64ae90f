from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from erase.eval.instruments.perceptual import (
    NetworkDistance,
    check_perceptual,
    load_perceptual,
)
from erase.eval.instruments.setting import Setting
from erase.eval.metrics.lpips import Lpips, build
from erase.eval.pictures import Picture
from erase.runtime.errors import UserError
from erase.runtime.files import sha256
from tests.eval.synthetic import CHURCH, TRUCK


def noise(seed: int, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(models.alexnet().state_dict(), file)
    return file


def test_the_published_distance_is_that_of_the_authors_package(alexnet: Path) -> None:
    import lpips

    ours = load_perceptual(f"alex@{alexnet}")
    theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = torch.load(alexnet, weights_only=True)
    theirs.net.load_state_dict(
        {k: state[f"features.{k.partition('.')[2]}"] for k in theirs.net.state_dict()}
    )
    a, b = [noise(1), noise(2)], [noise(3), noise(2)]
    tensors = [torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2) / 127.5 - 1 for x in (a, b)]
    expected = theirs(*tensors).flatten().tolist()
    assert ours(a, b) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert expected[0] > 0.01
    assert expected[1] == 0


def test_the_bundled_distance_is_the_equation_with_weights_of_one() -> None:
    from importlib.resources import files

    from erase.eval.instruments.bundled import load_features

    a, b = noise(1), noise(2)
    [found] = load_perceptual("mini")([a], [b])
    network = load_features(Path(str(files("erase.mini"))) / "weights" / "judges")
    expected = 0.0
    x, y = (torch.from_numpy(i).permute(2, 0, 1)[None] / 127.5 - 1 for i in (a, b))
    for number, layer in enumerate(network.body, 1):
        x, y = layer(x), layer(y)
        if isinstance(layer, nn.SiLU) and number % 6 == 0:
            p, q = (t[0].double() / t[0].double().pow(2).sum(0).sqrt() for t in (x, y))
            expected += float(((p - q) ** 2).sum(0).mean())
    assert found == pytest.approx(expected, rel=1e-4)
    assert load_perceptual("mini")([a], [a]) == [0.0]


def test_images_of_several_sizes_are_compared_one_pair_at_a_time() -> None:
    distance = load_perceptual("mini")
    sides = [[noise(1), noise(2, 32)], [noise(3), noise(4, 32)]]
    alone = [distance([a], [b])[0] for a, b in zip(*sides, strict=True)]
    assert distance(*sides) == pytest.approx(alone)
    with pytest.raises(UserError, match="64 × 64 and 32 × 32 px"):
        distance([noise(1)], [noise(2, 32)])


def test_bad_specs_and_files_are_refused(tmp_path: Path, alexnet: Path) -> None:
    for spec in ("resnet", "mini@x.pth", "alex2"):
        with pytest.raises(UserError, match="is not a perceptual distance"):
            check_perceptual(spec)
    with pytest.raises(UserError, match="There is no file .*torchvision's vgg16"):
        check_perceptual(f"vgg@{tmp_path / 'none.pth'}")
    with pytest.raises(UserError, match="lacks features"):
        load_perceptual(f"vgg@{alexnet}")
    wrong = tmp_path / "wrong.pth"
    state = {k: v[:1] for k, v in torch.load(alexnet, weights_only=True).items()}
    torch.save(state, wrong)
    with pytest.raises(UserError, match="other shapes"):
        load_perceptual(f"alex@{wrong}")


class Difference:
    """Mean absolute difference of the bytes; counts its pairs."""

    def __init__(self) -> None:
        self.name, self.seen = "bytes", 0
        self.facts: dict[str, str] = {}

    def __call__(self, a: list[np.ndarray], b: list[np.ndarray]) -> list[float]:
        self.seen += len(a)
        return [float(np.abs(x.astype(int) - y).mean()) for x, y in zip(a, b, strict=True)]


def picture(folder: Path, number: int, value: int, prompt: str = "x") -> Picture:
    from PIL import Image

    folder.mkdir(exist_ok=True)
    file = folder / f"{number}_0.png"
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(file)
    return Picture(file, sha256(file), folder.name, number, 0, prompt, 7, "general", {})


def test_pairs_are_joined_by_case_and_prompt_and_measured_once(tmp_path: Path) -> None:
    base = [picture(tmp_path / "a", i, 10) for i in range(3)]
    erased = [picture(tmp_path / "b", i, 10 + 2 * i) for i in range(3)]
    erased.append(picture(tmp_path / "b", 3, 99))
    erased[2] = picture(tmp_path / "b", 2, 50, prompt="another")
    distance = Difference()
    metric = Lpips(distance, tmp_path / "store")
    rows = metric.measure(erased, base)
    (found,) = metric.score(rows)
    # |10-10| = 0 and |12-10| = 2: mean 1, standard error 1.
    assert (found.value, found.n) == (1.0, 2)
    # Student's t of 1 degree of freedom, from a table.
    assert found.high == pytest.approx(1 + 12.706205)
    assert found.note == "2 pairs" and metric.measure(erased, base) == rows == [0.0, 2.0]
    assert distance.seen == 2


def test_without_a_network_nothing_is_measured(tmp_path: Path) -> None:
    setting = Setting(CHURCH, TRUCK, "other", [])
    assert build(setting).score([])[0].reason == "not measured: no --lpips network"
    bundled = build(Setting(CHURCH, TRUCK, "mini", []))
    assert bundled.name == "LPIPS[mini]"
    assert "no image has a counterpart" in str(bundled.score([])[0].reason)


def test_many_pairs_pass_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def distance(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return (x - y).square().flatten(1).mean(1)

    network = NetworkDistance("n", {}, distance, torch.device("cpu"))
    drawn = np.random.default_rng(0)
    a, b = (list(drawn.integers(0, 256, (7, 16, 16, 3), np.uint8)) for _ in "ab")
    whole = network(a, b)
    monkeypatch.setattr("erase.eval.instruments.perceptual.PIXELS", 3 * 16 * 16)
    assert network(a, b) == pytest.approx(whole) and seen == [7, 3, 3, 1]
    assert network([], []) == []
