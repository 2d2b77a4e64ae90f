"""Arrays of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from erase.classifiers.data import load_data
from erase.runtime.errors import UserError

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (6, 8, 8), dtype=np.uint8)
Y = np.array([0, 1, 2, 0, 1, 2])


def written(place: Path, **changes: Any) -> str:
    """A spec of a sound file but for the changes; None leaves an array out."""
    content = {"x_train": X, "y_train": Y, "x_test": X[:3], "y_test": Y[:3], **changes}
    np.savez(place / "own.npz", **{k: v for k, v in content.items() if v is not None})
    return f"npz@{place / 'own.npz'}"


def test_grey_images_without_channels(tmp_path: Path) -> None:
    found = load_data(written(tmp_path))
    assert found.shape() == (1, 8) and found.classes == ("0", "1", "2")
    assert (found.test.images(torch.tensor([2]))[0, 0] * 255).numpy() == pytest.approx(X[2])
    assert found.train.labels.tolist() == Y.tolist()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_come_last(tmp_path: Path, channels: int) -> None:
    x = RNG.integers(0, 256, (6, 8, 8, channels), dtype=np.uint8)
    names = np.array(["a", "b", "c"])
    # Labels in a column, as Keras keeps them.
    spec = written(tmp_path, x_train=x, x_test=x[:3], y_train=Y[:, None], classes=names)
    found = load_data(spec)
    assert found.shape() == (channels, 8) and found.classes == ("a", "b", "c")
    read = found.train.images(torch.tensor([5]))[0] * 255
    assert read.permute(1, 2, 0).numpy() == pytest.approx(x[5])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"x_test": None, "y_test": None}, "lacks 'x_test', 'y_test': save all of"),
        ({"x_train": X / 255}, "x_train of .* of float64: save square images as uint8"),
        ({"x_train": X[:, :7]}, "save square images"),
        ({"x_train": np.zeros((6, 3, 8, 8), np.uint8)}, "channels last"),
        ({"x_train": X.reshape(6, 64)}, "save square images"),
        ({"x_test": X[:3, :4, :4]}, "training images of .* and test images of"),
        ({"y_train": Y[:5]}, "save 6 whole numbers, one for each image"),
        ({"y_train": Y / 2}, "of float64: save 6 whole numbers"),
        ({"y_test": Y[:3] - 1}, "has the label -1"),
        ({"y_train": Y + 10**12}, "has the label 1000000000002 for 6 training images"),
        ({"classes": np.array(["a", "b"])}, "has the label 2, but there are 2 classes"),
        ({"classes": np.array(["a", "b", "b"])}, "a name of its own"),
        ({"x_train": X[:0], "y_train": Y[:0]}, "x_train of .* is empty"),
        ({"y_train": Y * 0, "y_test": Y[:3] * 0}, "two or more"),
        ({"y_train": Y.astype(object)}, "can't be read as a .npz file of plain arrays"),
    ],
)
def test_arrays_that_do_not_fit_are_one_sentence(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        load_data(written(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_another_file_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "own.npz"
    written(tmp_path)
    whole = file.read_bytes()
    with file.open("wb") as opened:
        np.save(opened, X)
    alone = file.read_bytes()
    for content in (alone, whole[: len(whole) // 2], b"", b"text", b"\x80\x04]\x94."):
        file.write_bytes(content)
        with pytest.raises(UserError, match="can't be read as a .npz file") as caught:
            load_data(f"npz@{file}")
        assert "\n" not in str(caught.value)
