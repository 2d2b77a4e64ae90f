from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from erase.eval.instruments.clip import Clip, load_clip
from erase.eval.instruments.features import load_extractor
from erase.eval.instruments.judges import load_judge, to_pil
from erase.runtime.errors import UserError

SIZE = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}
CONFIG = {"embed_dim": 32, "vision_cfg": SIZE, "text_cfg": TEXT}
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
QUICK, PLAIN = "QuickGELU", "GELU"


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A tiny model of open_clip's list with a tag of each kind, and the file behind both."""
    import open_clip
    from open_clip import factory, pretrained

    for name, more in (("tinyclip", {}), ("tinyclip-quickgelu", {"quick_gelu": True})):
        (tmp_path / f"{name}.json").write_text(json.dumps(CONFIG | more))
        open_clip.add_model_config(tmp_path / f"{name}.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tinyclip")
    # Scaled up, so that the two activations differ by far more than rounding.
    state = {k: (v * 3).contiguous() for k, v in model.state_dict().items()}
    file = tmp_path / "their.safetensors"
    save_file(state, file)
    entries = {
        "openai": pretrained._pcfg(url="", hf_hub="timm/tiny.openai/", quick_gelu=True),
        "laion2b": pretrained._pcfg(url="https://x.y/tiny-laion2b-00000000.pt"),
    }
    monkeypatch.setitem(pretrained._PRETRAINED, "tinyclip", entries)
    monkeypatch.setitem(pretrained._PRETRAINED, "tinyclip-quickgelu", {"openai": entries["openai"]})
    monkeypatch.setattr(factory, "download_pretrained", lambda *_, **__: str(file))
    yield file
    for name in ("tinyclip", "tinyclip-quickgelu"):
        factory._MODEL_CONFIGS.pop(name, None)
        factory._MODEL_CONFIG_PATHS[:] = [
            path for path in factory._MODEL_CONFIG_PATHS if path.parent != tmp_path
        ]


def opened(spec: str) -> Clip:
    return load_clip(spec, torch.device("cpu"))


def features(clip: Clip) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = clip.model.encode_image(clip.preprocess(to_pil(IMAGE))[None])
    return found


def reference(file: Path, quick: bool) -> torch.Tensor:
    """What open_clip itself makes of the weights with either activation."""
    import open_clip

    model, _, preprocess = open_clip.create_model_and_transforms(
        "tinyclip", pretrained=str(file), force_quick_gelu=quick
    )
    with torch.no_grad():
        found: torch.Tensor = model.eval().encode_image(preprocess(Image.fromarray(IMAGE))[None])
    return found


@pytest.mark.filterwarnings("error:QuickGELU mismatch")
def test_a_tag_runs_with_the_activation_of_its_training(weights: Path) -> None:
    quick, plain = reference(weights, True), reference(weights, False)
    assert not torch.allclose(quick, plain, rtol=1e-3)
    for spec, kind, expected in (
        ("tinyclip", QUICK, quick),  # the first tag, which is chosen without one
        ("tinyclip@openai", QUICK, quick),
        ("tinyclip-quickgelu@openai", QUICK, quick),
        ("tinyclip@laion2b", PLAIN, plain),
    ):
        clip = opened(f"open_clip:{spec}")
        assert torch.equal(features(clip), expected), spec
        assert clip.facts["activation"] == kind, spec


def test_a_files_activation_is_known_by_name_place_hash_or_configuration(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from open_clip import pretrained

    def kind(file: Path, name: str = "tinyclip") -> Any:
        return opened(f"open_clip:{name}@{file}").facts["activation"]

    assert kind(weights, "tinyclip-quickgelu") == QUICK
    place = weights.parent / "models--timm--tiny.openai" / "snapshots"
    place.mkdir(parents=True)
    copied = place / "open_clip_model.safetensors"
    copied.write_bytes(weights.read_bytes())
    assert kind(copied) == QUICK
    beside = weights.parent / "mine"
    beside.mkdir()
    for quick, found in ((True, QUICK), (False, PLAIN)):
        (beside / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": CONFIG | {"quick_gelu": quick}})
        )
        copied.replace(beside / copied.name) if copied.exists() else None
        assert kind(beside / copied.name) == found
    # As in OpenAI's addresses, and as in open_clip's file names.
    sha = hashlib.sha256(weights.read_bytes()).hexdigest()
    entries = pretrained._PRETRAINED["tinyclip"]
    for url in (f"https://x.y/{sha}/Tiny.pt", f"https://x.y/tiny-{sha[:8]}.pt"):
        monkeypatch.setitem(entries["openai"], "url", url)
        assert kind(weights) == QUICK
    assert not capsys.readouterr().err


def test_a_file_of_unknown_training_is_what_its_name_says_and_the_user_is_told(
    weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from open_clip import pretrained

    for _ in range(2):
        clip = opened(f"open_clip:tinyclip@{weights}")
    assert clip.facts["activation"] == PLAIN
    assert torch.equal(features(clip), reference(weights, False))
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("erase: ")
    assert "open_clip:tinyclip-quickgelu@FILE" in said
    # All published weights of a name are of one kind: so is the file.
    monkeypatch.delitem(pretrained._PRETRAINED["tinyclip"], "laion2b")
    assert opened(f"open_clip:tinyclip@{weights}").facts["activation"] == QUICK
    assert not capsys.readouterr().err


def test_judge_and_features_state_the_activation(weights: Path) -> None:
    spec = "open_clip:tinyclip@openai"
    judge = load_judge(spec, ["church", "truck"])
    assert judge.facts["activation"] == QUICK and judge.facts["weights"] == "openai"
    extractor = load_extractor(spec)
    expected = reference(weights, True)
    assert np.allclose(extractor([IMAGE]), (expected / expected.norm()).numpy(), atol=1e-6)
    assert extractor.facts["activation"] == QUICK


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
    with pytest.raises(UserError, match="can't be opened"):
        opened(f"open_clip:tiny@{tmp_path}")


def test_a_tag_comes_before_a_folder_of_that_name(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(weights.parent)
    Path("openai").mkdir()
    assert opened("open_clip:tinyclip@openai").facts["weights"] == "openai"
