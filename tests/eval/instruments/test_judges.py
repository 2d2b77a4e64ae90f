from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F

from erase.eval.instruments.judges import ASSUMED, TEMPLATES, load_judge, mini_judges, under_names
from erase.eval.instruments.spec import parse_spec
from erase.mini.networks import CLIP_CONFIG, build_clip, build_judge, save_module
from erase.runtime.errors import UserError
from erase.runtime.files import sha256

LABELS = ("dog-face", "church", "radio")
ARCH = "shufflenet_v2_x0_5"


@pytest.fixture
def images() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (48, 40 + 8 * i, 3), np.uint8) for i in range(5)]


def save_judge(file: Path, labels: Sequence[str] = LABELS, seed: int = 0) -> None:
    torch.manual_seed(seed)
    card = {"arch": ARCH, "labels": list(labels), "size": 64, "mean": [0.5] * 3, "std": [0.25] * 3}
    save_module(build_judge(len(labels)), file, {"judge": json.dumps(card)})


def test_a_file_judges_as_torchvision_does(tmp_path: Path, images: list[NDArray[np.uint8]]) -> None:
    file = tmp_path / "j.safetensors"
    save_judge(file)
    judge = load_judge(f"torchvision:{ARCH}@{file}")
    assert judge.labels == LABELS
    assert judge.facts["sha256"] == sha256(file)

    torch.manual_seed(0)
    network = build_judge(3).half().float().eval()
    expected = []
    for image in images:
        x = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
        # Shorter side 48 -> 64, then the middle 64 columns.
        width = int(64 * image.shape[1] / 48) if image.shape[1] > 48 else 64
        height = 64 if image.shape[1] >= 48 else int(64 * 48 / image.shape[1])
        x = F.interpolate(x, (height, width), mode="bilinear", antialias=True)
        top, left = round((height - 64) / 2), round((width - 64) / 2)
        x = (x[..., top : top + 64, left : left + 64] - 0.5) / 0.25
        with torch.no_grad():
            p = network(x).softmax(1)[0]
        expected.append((LABELS[int(p.argmax())], float(p.max())))
    for forms in (images, [Image.fromarray(i) for i in images]):
        answers = judge.classify(forms)
        assert [a for a, _ in answers] == [a for a, _ in expected]
        assert [c for _, c in answers] == pytest.approx([c for _, c in expected], abs=1e-5)


def test_plain_pth_takes_the_weights_own_transforms(
    tmp_path: Path, images: list[NDArray[np.uint8]]
) -> None:
    from torchvision.models import ShuffleNet_V2_X0_5_Weights

    file = tmp_path / "j.pth"
    network = build_judge(3).eval()
    torch.save({"state_dict": network.state_dict()}, file)
    judge = load_judge(f"torchvision:{ARCH}@{file}", LABELS)
    preprocess = ShuffleNet_V2_X0_5_Weights.DEFAULT.transforms()
    x = torch.stack([preprocess(Image.fromarray(i)) for i in images])
    with torch.no_grad():
        confidence, index = network(x).softmax(1).max(1)
    answers = judge.classify(images)
    # Unnamed outputs are the images' labels in alphabetical order, whatever the order given.
    assert judge.labels == tuple(sorted(LABELS)) != LABELS
    assert judge.facts["named_by"] == ASSUMED
    assert [a for a, _ in answers] == [sorted(LABELS)[i] for i in index]
    assert [c for _, c in answers] == pytest.approx(confidence.tolist(), abs=1e-6)


def test_a_files_own_labels_go_before_the_assumed_order(tmp_path: Path) -> None:
    file = tmp_path / "j.pth"
    torch.save(build_judge(3).state_dict(), file)
    Path(f"{file}.labels.txt").write_text("\n".join(LABELS))
    judge = load_judge(f"torchvision:{ARCH}@{file}", LABELS)
    assert (judge.labels, judge.facts["named_by"]) == (LABELS, "j.pth.labels.txt")


def test_an_anchor_that_no_image_asks_for_may_be_an_output_or_not(tmp_path: Path) -> None:
    file = tmp_path / "j.pth"
    for count, expected in ((3, sorted(LABELS)), (4, sorted([*LABELS, "cat"]))):
        torch.save(build_judge(count).state_dict(), file)
        judge = load_judge(f"torchvision:{ARCH}@{file}", LABELS, more=["cat"])
        assert judge.labels == tuple(expected)


def test_a_thousand_outputs_are_imagenets(tmp_path: Path) -> None:
    file = tmp_path / "j.safetensors"
    save_file(build_judge(1000).state_dict(), file)
    judge = load_judge(f"torchvision:{ARCH}@{file}")
    assert len(judge.labels) == 1000
    assert judge.labels[0] == "tench"
    assert judge.labels[497] == "church"


def test_names_that_imagenet_has_elsewhere_are_its_own(tmp_path: Path) -> None:
    """As DiT's card spells them: a name that two labels share has its number, and some a comma."""
    file = tmp_path / "j.safetensors"
    save_file(build_judge(1000).state_dict(), file)
    judge = load_judge(f"torchvision:{ARCH}@{file}")
    names = ["tench", "crane (134)", "crane (517)", "maillot, tank suit", "unknown (3)"]
    known = under_names(judge, names)
    assert [known.labels[at] for at in (0, 134, 517, 639)] == names[:4]
    assert [judge.labels[at] for at in (134, 517, 639)] == list(known.facts["renamed"])
    assert "unknown (3)" not in known.labels and len(set(known.labels)) == 1000
    assert under_names(judge, ["church"]) is judge
    image = np.zeros((8, 8, 3), np.uint8)
    assert known.classify([image])[0][1] == judge.classify([image])[0][1]


class Trap:
    """Unpickling it would run a command."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_no_pickle_is_executed(tmp_path: Path) -> None:
    file, target = tmp_path / "j.pth", tmp_path / "ran"
    torch.save({"state_dict": Trap(target)}, file)
    with pytest.raises(UserError, match="a dictionary with 'state_dict', not a state dict"):
        load_judge(f"torchvision:{ARCH}@{file}")
    file.write_bytes(pickle.dumps(Trap(target)))
    with pytest.raises(UserError, match="plain tensors"):
        load_judge(f"torchvision:{ARCH}@{file}")
    assert not target.exists()


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("resnet50", "is not a judge"),
        ("torchvison:resnet50", "Did you mean 'torchvision'"),
        ("torchvision:", "is not a judge"),
        ("torchvision:resnet50@", "is not a judge"),
        ("torchvision:resnet50@nowhere.pth", "does not exist"),
        ("timm:resnet18@nowhere.pth", "does not exist"),
        ("open_clip:ViT-B-32@some/folder", "does not exist"),
    ],
)
def test_a_bad_spec_is_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        parse_spec(spec)


def test_unknown_architectures_name_the_nearest() -> None:
    with pytest.raises(UserError, match="Did you mean 'resnet50'"):
        load_judge("torchvision:resnet500")
    with pytest.raises(UserError, match="no model 'nothing-like-it'"):
        load_judge("timm:nothing-like-it")
    with pytest.raises(UserError, match="Did you mean 'ViT-B-32'"):
        load_judge("open_clip:VIT-B-32", LABELS)
    with pytest.raises(UserError, match="no weights 'nope' for ViT-B-32: choose"):
        load_judge("open_clip:ViT-B-32@nope", LABELS)


def test_a_judge_trained_on_several_gpus_opens(
    tmp_path: Path, images: list[NDArray[np.uint8]]
) -> None:
    network = build_judge(len(LABELS))
    plain, parallel = tmp_path / "plain.pth", tmp_path / "parallel.pth"
    torch.save(network.state_dict(), plain)
    torch.save({"state_dict": torch.nn.DataParallel(network).state_dict()}, parallel)
    for file in (plain, parallel):
        file.with_name(f"{file.name}.labels.txt").write_text("\n".join(LABELS))
    a, b = (load_judge(f"torchvision:{ARCH}@{file}").classify(images) for file in (plain, parallel))
    assert a == b
    torch.save({f"net.{k}": v for k, v in network.state_dict().items()}, plain)
    with pytest.raises(UserError, match="does not fit the network") as error:
        load_judge(f"torchvision:{ARCH}@{plain}")
    assert len(str(error.value).replace(str(tmp_path), "")) < 300


def test_a_folder_of_open_clip_brings_no_python(tmp_path: Path) -> None:
    """Its configuration may ask transformers to run a tokenizer's own code."""
    place, mark = tmp_path / "clip", tmp_path / "ran"
    save_module(build_clip(), place / "open_clip_model.safetensors")
    model = CLIP_CONFIG["model_cfg"]
    asks = {"hf_tokenizer_name": "x", "tokenizer_kwargs": {"trust_remote_code": True}}
    asking = {**model, "text_cfg": {**model["text_cfg"], **asks}}
    own = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}
    evil = {
        "evil.py": f"open({str(mark)!r}, 'w')\nclass Evil: pass\n",
        "open_clip_config.json": json.dumps({**CLIP_CONFIG, "model_cfg": asking}),
        "tokenizer_config.json": json.dumps(own),
    }
    for name, text in evil.items():
        (place / "open_clip_config.json").write_text(json.dumps(CLIP_CONFIG))
        (place / name).write_text(text)
        with pytest.raises(UserError, match=f"{name} (is Python|asks for code of its own)"):
            load_judge(f"open_clip:x@{place}", LABELS)
        (place / name).unlink()
    assert not mark.exists()


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "j.safetensors"
    save_judge(file)
    with pytest.raises(UserError, match=f"holds a {ARCH}, not a resnet18"):
        load_judge(f"torchvision:resnet18@{file}")
    save_file(build_judge(3).state_dict(), file)
    with pytest.raises(UserError, match="it has 3 outputs, but there are 2 labels"):
        load_judge(f"torchvision:{ARCH}@{file}", ("two", "labels"))
    file.write_bytes(b"not a tensor in sight")
    with pytest.raises(UserError, match="can't be read"):
        load_judge(f"torchvision:{ARCH}@{file}")
    other = tmp_path / "weights.onnx"
    other.touch()
    with pytest.raises(UserError, match="is not a weights file"):
        load_judge(f"torchvision:{ARCH}@{other}")
    save_file({"x": torch.zeros(1)}, file, {"judge": '{"arch": 3}'})
    with pytest.raises(UserError, match="metadata"):
        load_judge(f"torchvision:{ARCH}@{file}")


def test_no_network_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(UserError, match="no route to host"):
        load_judge(f"torchvision:{ARCH}")


def test_timm_judges_as_timm_does(tmp_path: Path, images: list[NDArray[np.uint8]]) -> None:
    import timm

    file = tmp_path / "t.safetensors"
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3).eval()
    save_file(network.state_dict(), file)
    judge = load_judge(f"timm:test_resnet@{file}", LABELS)
    preprocess = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    x = torch.stack([preprocess(Image.fromarray(i)) for i in images])
    with torch.no_grad():
        confidence, index = network(x).softmax(1).max(1)
    answers = judge.classify(images)
    # Unnamed outputs are the images' labels in alphabetical order, whatever the order given.
    assert judge.labels == tuple(sorted(LABELS)) != LABELS
    assert judge.facts["named_by"] == ASSUMED
    assert [a for a, _ in answers] == [sorted(LABELS)[i] for i in index]
    assert [c for _, c in answers] == pytest.approx(confidence.tolist(), abs=1e-6)


def test_missing_timm_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match="pip install"):
        load_judge("timm:resnet18")


@pytest.fixture
def clip_folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "clip"
    save_module(build_clip(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(CLIP_CONFIG))
    return folder


def test_open_clip_judges_zero_shot_as_its_own_example(
    clip_folder: Path, images: list[NDArray[np.uint8]]
) -> None:
    import open_clip

    judge = load_judge(f"open_clip:mini@{clip_folder}", LABELS)
    name = f"local-dir:{clip_folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    model.eval()
    tokenizer = open_clip.get_tokenizer(name)
    with torch.no_grad():
        texts = []
        for words in ("dog face", "church", "radio"):
            t = model.encode_text(tokenizer([p.format(words) for p in TEMPLATES]))
            t = (t / t.norm(dim=-1, keepdim=True)).mean(0)
            texts.append(t / t.norm())
        features = model.encode_image(torch.stack([preprocess(Image.fromarray(i)) for i in images]))
        features = features / features.norm(dim=-1, keepdim=True)
        p = (model.logit_scale.exp() * features @ torch.stack(texts).T).softmax(-1)
    answers = judge.classify(images)
    assert [a for a, _ in answers] == [LABELS[i] for i in p.argmax(1)]
    assert [c for _, c in answers] == pytest.approx(p.max(1).values.tolist(), abs=1e-5)
    with pytest.raises(UserError, match="chooses among labels"):
        load_judge(f"open_clip:mini@{clip_folder}")


def test_a_broken_open_clip_folder_is_one_sentence(clip_folder: Path) -> None:
    (clip_folder / "open_clip_config.json").write_text("{}")
    with pytest.raises(UserError, match="can't be opened"):
        load_judge(f"open_clip:mini@{clip_folder}", LABELS)


def test_the_bundled_judges_take_the_same_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("erase.runtime.files.files", lambda package: tmp_path)
    with pytest.raises(UserError, match="is missing"):
        mini_judges()
    folder = tmp_path / "weights" / "judges"
    save_judge(folder / "object.safetensors")
    save_judge(folder / "style.safetensors", ("ink", "flat"))
    judges = mini_judges()
    assert {axis: j.labels for axis, j in judges.items()} == {
        "object": LABELS,
        "style": ("ink", "flat"),
    }
    assert judges["object"].spec == f"torchvision:{ARCH}@{folder / 'object.safetensors'}"


@pytest.mark.parametrize("labels", [LABELS, None])
def test_weights_that_do_not_fit_are_told_briefly(
    tmp_path: Path, labels: Sequence[str] | None
) -> None:
    file = tmp_path / "j.pth"
    torch.save({f"backbone.{k}": v for k, v in build_judge(3).state_dict().items()}, file)
    with pytest.raises(UserError, match="does not fit the network") as error:
        load_judge(f"torchvision:{ARCH}@{file}", labels)
    assert len(str(error.value).replace(str(tmp_path), "")) < 300


def test_labels_as_windows_saves_them(tmp_path: Path) -> None:
    file = tmp_path / "j.pth"
    torch.save(build_judge(3).state_dict(), file)
    beside = tmp_path / "j.pth.labels.txt"
    beside.write_bytes(b"\xef\xbb\xbfdog-face\r\nchurch\r\nradio\r\n")
    assert load_judge(f"torchvision:{ARCH}@{file}").labels == LABELS
