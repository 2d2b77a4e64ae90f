"""Published data sets, read from tiny files in their own format."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.io import savemat

from erase.classifiers.data import list_data, load_data
from erase.runtime.errors import UserError

RNG = np.random.default_rng(0)


def images(count: int, *shape: int) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (count, *shape), dtype=np.uint8)


def refused(spec: str) -> str:
    with pytest.raises(UserError) as caught:
        load_data(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_they_are_found_by_name() -> None:
    assert list_data() == sorted(list_data())
    named = {"mini", "imagefolder", "npz", "fashion-mnist", "cifar10", "cifar100", "svhn"}
    assert named <= {*list_data()}
    assert "Did you mean 'cifar10'?" in refused("cifar-10@x")
    for name in named - {"mini"}:
        assert f"give --data {name}@" in refused(name)
        assert "nowhere" in refused(f"{name}@nowhere")


# Fashion-MNIST


def write_idx(file: Path, content: NDArray[np.uint8]) -> None:
    head = struct.pack(f">I{content.ndim}I", 0x0800 + content.ndim, *content.shape)
    file.write_bytes(gzip.compress(head + content.tobytes()))


def write_fashion(folder: Path) -> dict[str, NDArray[np.uint8]]:
    made = {"train": images(20, 28, 28), "t10k": images(10, 28, 28)}
    for stem, pixels in made.items():
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", pixels)
        labels = np.arange(len(pixels), dtype=np.uint8) % 10
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", labels)
    return made


def test_fashion_mnist_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = write_fashion(tmp_path)
    found = load_data(f"fashion-mnist@{tmp_path}")
    assert found.shape() == (1, 28) and found.classes[6] == "Shirt" and len(found.classes) == 10
    assert found.test.labels.tolist() == list(range(10))
    x = found.train.images(torch.tensor([7, 0]))
    assert (x[:, 0] * 255).numpy() == pytest.approx(made["train"][[7, 0]])
    assert found.training.augment == "none"


def test_fashion_mnist_that_is_half_there_or_damaged(tmp_path: Path) -> None:
    spec = f"fashion-mnist@{tmp_path}"
    labels = tmp_path / "t10k-labels-idx1-ubyte.gz"
    write_fashion(tmp_path)
    labels.unlink()
    assert "lacks 't10k-labels-idx1-ubyte.gz'" in refused(spec)
    write_idx(labels, images(9))
    assert "has 10 images and t10k-labels-idx1-ubyte.gz 9 labels" in refused(spec)
    write_idx(labels, images(10, 28, 28))
    assert "begins with the number 2051, not with 2049" in refused(spec)
    write_idx(labels, np.full(10, 10, np.uint8))
    assert "has the label 10, but there are 10 classes" in refused(spec)
    pixels = tmp_path / "t10k-images-idx3-ubyte.gz"
    write_idx(pixels, images(10, 27, 28))
    assert "states 10 x 27 x 28" in refused(spec)
    whole = gzip.compress(struct.pack(">4I", 2051, 10, 28, 28) + bytes(10 * 784 - 1))
    for broken in (whole, whole[:-20], b"", b"plain", gzip.compress(b"short")):
        pixels.write_bytes(broken)
        assert "fetch it again" in refused(spec)


# CIFAR


def cifar(count: int, labels: int) -> tuple[bytes, NDArray[np.uint8]]:
    """Records whose last label is their number, and their images (N, 3, 32, 32)."""
    pixels = images(count, 3, 32, 32)
    tags = np.stack([np.full(count, 9, np.uint8)] * labels, 1)
    tags[:, -1] = np.arange(count) % 10
    return np.concatenate([tags, pixels.reshape(count, -1)], 1).tobytes(), pixels


def write_cifar10(folder: Path) -> list[NDArray[np.uint8]]:
    found = []
    for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
        content, pixels = cifar(10, 1)
        (folder / f"{name}.bin").write_bytes(content)
        found.append(pixels)
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    return found


def write_cifar100(folder: Path) -> list[NDArray[np.uint8]]:
    found = []
    for name in ("train", "test"):
        content, pixels = cifar(20, 2)
        (folder / f"{name}.bin").write_bytes(content)
        found.append(pixels)
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine {n}" for n in range(100)))
    return found


def test_cifar10_is_read_as_it_was_written(tmp_path: Path) -> None:
    inside = tmp_path / "cifar-10-batches-bin"
    inside.mkdir()
    made = write_cifar10(inside)
    for place in (tmp_path, inside):  # the archive's folder, or the one around it
        found = load_data(f"cifar10@{place}")
        assert found.shape() == (3, 32) and found.classes == tuple("abcdefghij")
        assert len(found.train.labels) == 50 and len(found.test.labels) == 10
        x = found.train.images(torch.tensor([13]))[0] * 255  # of the second file
        assert x.numpy() == pytest.approx(made[1][3]) and int(found.train.labels[13]) == 3
        usual = found.training
        assert (usual.epochs, usual.lr, usual.batch) == (182, 0.1, 256)
        assert (usual.schedule, usual.augment, usual.weight_decay) == ("step", "crop-flip", 5e-4)


def test_cifar100_is_read_with_its_fine_labels(tmp_path: Path) -> None:
    made = write_cifar100(tmp_path)
    found = load_data(f"cifar100@{tmp_path}")
    assert found.classes[99] == "fine 99" and found.train.labels.tolist() == [*range(10)] * 2
    x = found.test.images(torch.tensor([4]))[0] * 255
    assert x.numpy() == pytest.approx(made[1][4])


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_that_is_half_there_damaged_or_pickled(name: str, tmp_path: Path) -> None:
    spec = f"{name}@{tmp_path}"
    {"cifar10": write_cifar10, "cifar100": write_cifar100}[name](tmp_path)
    last, names = (
        ("data_batch_5.bin", "batches.meta.txt")
        if name == "cifar10"
        else ("train.bin", "fine_label_names.txt")
    )
    content = (tmp_path / last).read_bytes()
    for broken in (content[:-1], b""):
        (tmp_path / last).write_bytes(broken)
        assert "not a whole number of records" in refused(spec)
    (tmp_path / last).write_bytes(content)
    (tmp_path / names).write_text("a\nb\n")
    assert "but there are 2 classes" in refused(spec)
    (tmp_path / names).unlink()
    assert f"lacks '{names}'" in refused(spec)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / ("data_batch_1" if name == "cifar10" else "train")).write_bytes(b"cos\nsystem\n")
    told = refused(f"{name}@{pickled}")
    assert "which is pickled and is not opened: give the folder of the binary version" in told
    around = tmp_path / "around"
    (around / ("cifar-10-batches-py" if name == "cifar10" else "cifar-100-python")).mkdir(
        parents=True
    )
    assert "binary version" in refused(f"{name}@{around}")


# SVHN


def write_svhn(folder: Path) -> NDArray[np.uint8]:
    pixels = images(10, 32, 32, 3)
    for part in ("train", "test"):
        content = {
            "X": pixels.transpose(1, 2, 3, 0),
            "y": np.arange(1, 11, dtype=np.uint8)[:, None],
        }
        savemat(folder / f"{part}_32x32.mat", content)
    return pixels


def test_svhn_is_read_with_its_zero_put_right(tmp_path: Path) -> None:
    made = write_svhn(tmp_path)
    found = load_data(f"svhn@{tmp_path}")
    assert found.train.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert found.classes == tuple("0123456789") and found.shape() == (3, 32)
    x = found.train.images(torch.tensor([6]))[0] * 255
    assert x.permute(1, 2, 0).numpy() == pytest.approx(made[6])
    assert found.training.augment == "none" and found.training.epochs == 182


def test_svhn_that_is_half_there_or_damaged(tmp_path: Path) -> None:
    spec, file = f"svhn@{tmp_path}", tmp_path / "test_32x32.mat"
    pixels = write_svhn(tmp_path).transpose(1, 2, 3, 0)
    content = file.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"plain text"):
        file.write_bytes(broken)
        assert "fetch it again" in refused(spec)
    digits = np.arange(1, 11)
    for x, y, told in (
        (pixels, digits[:9], "y (1, 9)"),
        (pixels[..., :0], digits[:0], "X (32, 32, 3, 0)"),
        (pixels[:28], digits, "X (28, 32, 3, 10)"),
        (pixels / 255, digits, "of float64"),
        (pixels, digits - 1, "labels from 0 to 9"),
        (pixels, digits + 1, "labels from 2 to 11"),
    ):
        savemat(file, {"X": x, "y": y})
        assert told in refused(spec)
    savemat(file, {"X": pixels})
    assert "can't be read as one of SVHN's" in refused(spec)
    file.unlink()
    assert "lacks 'test_32x32.mat'" in refused(spec)
