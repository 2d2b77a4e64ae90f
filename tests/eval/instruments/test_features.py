"""Feature networks by spec: Inception as torch-fidelity has it, CLIP's embeddings, the bundled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from erase.eval.instruments.bundled import mini_clip
from erase.eval.instruments.clip import load_clip
from erase.eval.instruments.features import load_extractor
from erase.eval.instruments.judges import to_pil
from erase.eval.metrics.fidelity import score
from erase.runtime.errors import UserError


class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]
    """The network with random weights, since the trained ones may not be here."""

    def load_state_dict(self, *args: Any, **kwargs: Any) -> None:
        return None


def pictures(count: int, side: int = 32) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    torch.manual_seed(0)
    network = Untrained("x", ["2048"], feature_extractor_weights_path=str(folder / "empty.pth"))
    torch.save(network.state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.slow
def test_inception_gives_torch_fidelitys_features(weights: Path) -> None:
    ours = load_extractor(f"inception@{weights}")
    theirs = FeatureExtractorInceptionV3("x", ["2048"], feature_extractor_weights_path=str(weights))
    images = pictures(3)
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    np.testing.assert_array_equal(ours(images), theirs(x)[0].numpy())
    mixed = [images[0], pictures(1, 48)[0]]
    np.testing.assert_allclose(ours(mixed)[0], ours(images)[0], rtol=1e-4, atol=1e-5)
    assert ours.dimensions == 2048 and len(str(ours.facts["weights"])) == 64


def test_the_published_name_belongs_to_inception_alone() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.normal(size=(2, 5, 3)).astype(np.float32)
    named = [score(name, list(one), list(two)).fid for name in ("inception", "mini")]
    assert [d.name for d in named if d] == ["FID", "FID[mini]"]


def test_clip_gives_its_normalised_embeddings() -> None:
    extractor = load_extractor(mini_clip())
    images = pictures(2, 64)
    clip = load_clip(mini_clip(), torch.device("cpu"))
    with torch.inference_mode():
        x = torch.stack([clip.preprocess(to_pil(image)) for image in images])
        raw = clip.model.encode_image(x)
    expected = (raw / raw.norm(dim=1, keepdim=True)).numpy()
    np.testing.assert_allclose(extractor(images), expected, rtol=1e-4, atol=1e-6)
    assert extractor.dimensions == expected.shape[1] and extractor.name.startswith("open_clip:")


class Danger:
    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("never",))


def test_mistakes_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"x": Danger()}, tmp_path / "bad.pth")
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
    for spec, message in (
        ("inceptoin", "is not a feature network"),
        (f"inception@{tmp_path / 'none.pth'}", "There is no file"),
        (f"inception@{tmp_path / 'bad.pth'}", "a dictionary with 'x', not a state dict"),
        (f"inception@{tmp_path / 'other.pth'}", "can't be opened"),
    ):
        with pytest.raises(UserError, match=message):
            load_extractor(spec)
    assert "never" not in capsys.readouterr().out


def test_the_bundled_clip_is_named_without_its_place() -> None:
    from erase.eval.metrics.clip_score import ClipScore

    assert ClipScore(mini_clip(), None).facts["model"] == "open_clip:mini"
    assert ClipScore("open_clip:ViT-B-32@x.pt", None).facts["model"] == "open_clip:ViT-B-32@x.pt"
