"""Folders of one's own images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from erase.classifiers.data import imagefolder, load_data
from erase.classifiers.data.imagefolder import Files
from erase.runtime.errors import UserError


def write(folder: Path, counts: dict[str, int], suffix: str = "png") -> None:
    """Images of 20 x 10 px, each of a shade that its number and its class give."""
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for k in range(count):
            shade = (10 * k, 100 * number, 200)
            Image.new("RGB", (20, 10), shade).save(folder / name / f"{k:02}.{suffix}")


def refused(spec: str) -> str:
    with pytest.raises(UserError) as caught:
        load_data(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("test", ["test", "val"])
def test_classes_are_numbered_as_torchvision_does(tmp_path: Path, test: str) -> None:
    from torchvision.datasets import ImageFolder

    counts = {"b": 2, "a": 3, "10": 1, "9": 1, "Z": 1}
    write(tmp_path / "train", counts)
    write(tmp_path / test, dict.fromkeys(counts, 1), "jpg")
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    found = load_data(f"imagefolder@{tmp_path}")
    (tmp_path / "train" / ".hidden").rmdir()
    theirs = ImageFolder(str(tmp_path / "train"))
    assert list(found.classes) == theirs.classes == ["10", "9", "Z", "a", "b"]
    assert found.train.labels.tolist() == theirs.targets
    assert isinstance(found.train, Files)
    assert [str(file) for file in found.train.files] == [path for path, _ in theirs.samples]
    assert len(found.test.labels) == 5


def test_images_are_cropped_in_the_middle_and_resized(tmp_path: Path) -> None:
    write(tmp_path, {"a": 5, "b": 5})
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 255  # the middle square is white, the sides are black
    for name in "ab":
        for k in range(5):
            Image.fromarray(picture).save(tmp_path / name / f"{k:02}.png")
    found = load_data(f"imagefolder@{tmp_path}")
    x = found.train.images(torch.tensor([0, 3]))
    assert x.shape == (2, 3, 64, 64) and x.dtype == torch.float32
    # Resizing overshoots a little where black begins.
    assert x.min() > 0.8 and (x[..., 4:-4] > 0.99).all()
    assert found.shape() == (3, 64)
    large = load_data(f"imagefolder@{tmp_path}:96")
    assert large.shape() == (3, 96)
    assert large.digest() != found.digest()


def test_without_a_test_folder_a_fifth_of_each_class_is_held_out(tmp_path: Path) -> None:
    write(tmp_path, {"a": 10, "b": 16, "train": 2})
    found = load_data(f"imagefolder@{tmp_path}")
    again = load_data(f"imagefolder@{tmp_path}")
    assert isinstance(found.train, Files) and isinstance(found.test, Files)
    assert torch.bincount(found.test.labels).tolist() == [2, 3, 1]
    assert torch.bincount(found.train.labels).tolist() == [8, 13, 1]
    assert not {*found.train.files} & {*found.test.files}
    assert isinstance(again.test, Files) and again.test.files == found.test.files
    assert again.digest() == found.digest()


def test_the_digest_is_that_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, {"a": 2, "b": 2})
    before = load_data(f"imagefolder@{tmp_path}").digest()
    Image.new("RGB", (20, 10), "red").save(tmp_path / "b" / "01.png")
    assert load_data(f"imagefolder@{tmp_path}").digest() != before


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a": 10, "b": 10})
    monkeypatch.setattr(imagefolder, "KEPT", 3 * 3 * 64 * 64)
    found = load_data(f"imagefolder@{tmp_path}").train
    assert isinstance(found, Files)
    order = torch.arange(16)
    first, again = found.images(order), found.images(order)
    assert torch.equal(first, again) and len(found.kept) == 3


def test_folders_that_are_half_there_are_one_sentence(tmp_path: Path) -> None:
    spec = f"imagefolder@{tmp_path}"
    assert "has 0 folders" in refused(spec)
    write(tmp_path / "train", {"a": 2, "b": 2})
    assert "has train and no test beside it" in refused(spec)
    write(tmp_path / "test", {"a": 1, "c": 1})
    assert "differ in the classes 'b', 'c'" in refused(spec)
    (tmp_path / "test" / "c").rename(tmp_path / "test" / "b")
    assert len(load_data(spec).classes) == 2
    (tmp_path / "test" / "b" / "00.png").unlink()
    assert "has no images" in refused(spec)
    write(tmp_path / "alone", {"a": 2, "b": 1})
    assert "has one image" in refused(f"imagefolder@{tmp_path / 'alone'}")
    for side in (7, 1025, 99999):
        assert f"asks for images of {side} px" in refused(f"{spec}:{side}")


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    write(tmp_path, {"a": 2, "b": 2})
    found = load_data(f"imagefolder@{tmp_path}").train
    assert isinstance(found, Files)
    found.files[1].write_bytes(b"no image")
    with pytest.raises(UserError, match="can't be read as an image"):
        found.images(torch.tensor([0, 1]))
