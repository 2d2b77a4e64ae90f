"""Networks by name: shapes, state dicts that drop back in, and what can't be built."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from erase.classifiers.models import Classifier, Shape, build_model, list_models, parse_model
from erase.classifiers.models._normalised import Normalised
from erase.classifiers.samples import Arrays, Data
from erase.runtime.errors import UserError

GREY = Shape(1, 28, 10, (0.3,), (0.4,))
COLOUR = Shape(3, 32, 7, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def weights(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def shown(classifier: Classifier, shape: Shape, seed: int = 0) -> torch.Tensor:
    x = torch.rand(
        3, shape.channels, shape.side, shape.side, generator=torch.Generator().manual_seed(seed)
    )
    classifier.network.eval()
    with torch.no_grad():
        return classifier.logits(x)


def refused(spec: str, shape: Shape = COLOUR) -> str:
    with pytest.raises(UserError) as caught:
        build_model(spec, shape)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


def test_they_are_found_by_name() -> None:
    assert {*list_models()} >= {"cnn", "resnet18", "torchvision", "timm", "module"}
    assert parse_model("module:package.mod:function") == ("module", "package.mod:function", None)
    assert "Did you mean 'resnet18'?" in refused("resnet-18")
    assert "write torchvision:ARCH[@FILE]." in refused("torchvision")
    assert "write cnn[@FILE]." in refused("cnn:large")
    assert "There is no file 'nowhere.pth' with the weights of 'cnn'" in refused("cnn@nowhere.pth")
    assert "There is no file ''" in refused("cnn@")


def test_the_small_network_has_the_weights_of_its_layers() -> None:
    network = build_model("cnn", GREY).network
    convolutions = (9 * 16 + 16) + 2 * 16 + (16 * 9 * 32 + 32) + 2 * 32
    assert weights(network) == convolutions + (32 * 7 * 7 * 256 + 256) + (256 * 10 + 10)
    assert weights(network) == 409_130
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("side", [8, 9, 15, 28, 31, 32, 33, 63, 64])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_small_network_takes_any_small_image(side: int, channels: int) -> None:
    shape = Shape(channels, side, 5, (0.5,) * channels, (0.5,) * channels)
    assert shown(build_model("cnn", shape), shape).shape == (3, 5)


def test_the_small_network_halves_large_images() -> None:
    large = build_model("cnn", Shape(3, 64, 10, COLOUR.mean, COLOUR.std)).network
    small = build_model("cnn", Shape(3, 32, 10, COLOUR.mean, COLOUR.std)).network
    assert weights(large) == weights(small)
    for side in (7, 65, 224):
        assert f"not of {side}" in refused("cnn", Shape(3, side, 10, COLOUR.mean, COLOUR.std))


def test_resnet18_is_that_of_cifar() -> None:
    network = build_model("resnet18", Shape(3, 32, 10, COLOUR.mean, COLOUR.std)).network
    assert weights(network) == 11_173_962  # as published code for CIFAR-10 counts it
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 20
    sizes: list[tuple[int, ...]] = []
    network.layer1.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape))
    shown(Classifier(network, 10), COLOUR)
    assert sizes == [(3, 64, 32, 32)]  # nothing is pooled before the blocks
    assert shown(build_model("resnet18", GREY), GREY).shape == (3, 10)


@pytest.mark.parametrize("name", ["cnn", "resnet18"])
def test_the_mean_and_deviation_of_the_data_belong_to_the_weights(name: str) -> None:
    classifier = build_model(name, COLOUR)
    assert classifier.mean is classifier.std is None
    state = classifier.network.state_dict()
    assert state["normalize.mean"].tolist() == pytest.approx(COLOUR.mean)
    assert state["normalize.std"].tolist() == pytest.approx(COLOUR.std)
    first = next(m for m in classifier.network.modules() if isinstance(m, Normalised))
    x = torch.tensor([0.5, 0.7, 0.9]).view(1, 3, 1, 1)
    assert first(x).reshape(-1).tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_normalisation_is_of_use_before_the_first_weight() -> None:
    # Brighter images with the mean moved along give the same logits.
    moved = Shape(3, 32, 7, (0.2, 0.3, 0.4), COLOUR.std)
    one, other = build_model("cnn", COLOUR, 1), build_model("cnn", moved, 1)
    x = torch.rand(2, 3, 32, 32) / 2
    with torch.no_grad():
        assert torch.allclose(one.logits(x), other.logits(x + 0.1), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("cnn", "safetensors"),
        ("cnn", "pth"),
        ("resnet18", "safetensors"),
        ("torchvision:shufflenet_v2_x0_5", "pth"),
    ],
)
def test_a_state_dict_drops_back_in(name: str, suffix: str, tmp_path: Path) -> None:
    shape = Shape(3, 8, 7, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    made, file = build_model(name, shape, seed=3), tmp_path / f"w.{suffix}"
    made.network.train()
    with torch.no_grad():
        made.logits(torch.rand(4, 3, 8, 8))  # running statistics move
    if suffix == "pth":
        torch.save({"model": made.network.state_dict(), "epoch": 1}, file)
    else:
        save_file(made.network.state_dict(), file)
    read = build_model(f"{name}@{file}", Shape(3, 8, 7, (0.9,) * 3, (0.9,) * 3))
    assert torch.equal(shown(read, shape), shown(made, shape))
    assert not torch.equal(shown(build_model(name, shape), shape), shown(made, shape))


def test_weights_are_drawn_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, same, other = (build_model("cnn", GREY, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(shown(one, GREY), shown(same, GREY))
    assert not torch.equal(shown(one, GREY), shown(other, GREY))


def test_trying_a_network_leaves_it_as_it_was(tmp_path: Path) -> None:
    network = build_model("torchvision:shufflenet_v2_x0_5", COLOUR).network
    assert all(module.training for module in network.modules())
    assert not any(
        int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)
    )


def test_a_file_of_other_weights_is_one_sentence(tmp_path: Path) -> None:
    state = build_model("cnn", COLOUR).network.state_dict()
    file = tmp_path / "w.safetensors"
    save_file(state, file)
    told = refused(f"cnn@{file}", Shape(3, 32, 9, COLOUR.mean, COLOUR.std))
    assert "with 9 classes ('fc2.weight' is (7, 256) instead of (9, 256))" in told
    assert "it lacks 'bn1.weight', " in refused(f"resnet18@{file}")
    save_file({k: v for k, v in state.items() if k != "fc1.bias"}, file)
    assert "it lacks 'fc1.bias'" in refused(f"cnn@{file}")
    save_file({**state, "more": torch.zeros(1)}, file)
    assert "it has 'more' too much" in refused(f"cnn@{file}")
    file.write_bytes(b"text")
    assert "can't be read" in refused(f"cnn@{file}")


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    file, network = tmp_path / "w.pth", build_model("cnn", COLOUR).network
    torch.save(network, file)
    assert "torch" in refused(f"cnn@{file}")


def test_torchvision_is_found_by_its_names() -> None:
    shape = Shape(3, 64, 7)
    classifier = build_model("torchvision:shufflenet_v2_x0_5", shape)
    assert classifier.mean == (0.485, 0.456, 0.406) and classifier.std == (0.229, 0.224, 0.225)
    assert shown(classifier, shape).shape == (3, 7)
    assert "Did you mean 'resnet50'?" in refused("torchvision:resnet5o")
    # Its quantised and detecting models are no classifiers of this kind.
    assert "no classifier" in refused("torchvision:fasterrcnn_resnet50_fpn")


def test_grey_images_are_shown_to_torchvision_in_three_channels() -> None:
    classifier = build_model("torchvision:shufflenet_v2_x0_5", GREY)
    classifier.network.eval()
    x = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(classifier.logits(x), classifier.logits(x.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize(
    ("spec", "shape"),
    [
        ("torchvision:squeezenet1_1", Shape(3, 8, 7)),
        ("torchvision:shufflenet_v2_x0_5", Shape(4, 32, 7)),
    ],
)
def test_images_that_an_architecture_cannot_take(spec: str, shape: Shape) -> None:
    told = f"can't take images of {shape.channels} x {shape.side} x {shape.side}"
    assert told in refused(spec, shape)


def test_timm_normalises_as_its_own_weights_ask(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    name = "lcnet_035"
    classifier = build_model(f"timm:{name}", COLOUR, seed=2)
    torch.manual_seed(2)
    theirs = timm.create_model(name, num_classes=7).eval()
    usual = theirs.pretrained_cfg
    mean, std = (torch.tensor(usual[k]).view(1, 3, 1, 1) for k in ("mean", "std"))
    x = torch.rand(2, 3, 32, 32)
    classifier.network.eval()
    with torch.no_grad():
        assert torch.allclose(classifier.logits(x), theirs((x - mean) / std), atol=1e-6)
    # Its names are timm's, so that its weights drop in.
    assert [*classifier.network.state_dict()] == [*theirs.state_dict()]
    assert shown(build_model(f"timm:{name}", GREY), GREY).shape == (3, 10)
    assert "timm has no classifier 'lcnet_O35'" in refused("timm:lcnet_O35")
    assert "timm has no classifier" in refused("timm:hf-hub:some/model")


def test_timm_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "needs timm: pip install -e '.[timm]'" in refused("timm:lcnet_035")


OWN = """
import torch
from torch import nn

fixed = nn.Linear(3 * 32 * 32, 7)
number = 7


def small(classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, classes))


def seven():
    return small(7)


def wide(*, width=7):
    return small(width)


def ten():
    return small(10)


class Net(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.inner = small(classes)

    def forward(self, x):
        return {"logits": self.inner(x)} if x.max() > 2 else Answer(self.inner(x))


class Answer:
    def __init__(self, logits):
        self.logits = logits


def broken(classes):
    raise RuntimeError("out of\\nluck")


def nothing(classes):
    return None


def two(a, b):
    return small(a)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "my_own_nets.py").write_text(OWN)
    (tmp_path / "broken_nets.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("name", ["small", "seven", "wide", "Net"])
def test_a_network_of_ones_own(name: str) -> None:
    spec = f"module:package.my_own_nets:{name}"
    classifier = build_model(spec, COLOUR)
    assert shown(classifier, COLOUR).shape == (3, 7)
    assert classifier.mean is classifier.std is None
    Path("w.pth").unlink(missing_ok=True)
    torch.save(classifier.network.state_dict(), "w.pth")
    read = build_model(f"{spec}@w.pth", COLOUR, seed=1)
    assert torch.equal(shown(read, COLOUR), shown(classifier, COLOUR))


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("arch", "told"),
    [
        ("package.my_own_nets", "names no function: write module:package.module:function"),
        ("package.my_own_nets:smal", "has no 'smal': give a function that it has. Did you mean 's"),
        ("package.my_own_nets:number", "is int, not a function"),
        ("package.my_own_nets:fixed", "is Linear, not a function: give one that builds"),
        ("package.my_own_nets:broken", "failed (RuntimeError: out of): it is called with"),
        ("package.my_own_nets:nothing", "returned NoneType: let it return a torch.nn.Module"),
        ("package.my_own_nets:two", "failed (TypeError: "),
        ("package.my_own_nets:ten", "The model returns (2, 10) for 2 images of 7 classes"),
        ("nowhere:f", "The module nowhere can't be imported (ModuleNotFoundError: "),
        ("broken_nets:f", "can't be imported (ZeroDivisionError: "),
    ],
)
def test_what_is_no_network_of_ones_own_is_one_sentence(arch: str, told: str) -> None:
    assert told in refused(f"module:{arch}")


@pytest.mark.usefixtures("own")
def test_a_network_of_ones_own_for_other_images_is_one_sentence() -> None:
    assert "can't take images of 1 x 28 x 28" in refused("module:package.my_own_nets:small", GREY)


def test_a_shape_is_that_of_the_data() -> None:
    pixels = torch.randint(0, 256, (6, 2, 9, 9)).to(torch.uint8)
    own = Arrays(pixels, torch.arange(6) % 3)
    data = Data("x", own, own, ("a", "b", "c"))
    shape = Shape(*data.shape(), len(data.classes), *data.moments())
    assert (shape.channels, shape.side, shape.classes) == (2, 9, 3)
    assert shown(build_model("cnn", shape), shape).shape == (3, 3)
