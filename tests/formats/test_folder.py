"""Folders from strangers: nothing in them runs, no name leads outside, real forms open."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from erase.cli.main import main
from erase.diffusion.model import Diffusion
from erase.formats.base import open_base
from erase.formats.folder import copy_component, read_state
from erase.formats.pipeline import load_pipeline, save_model
from erase.runtime.errors import UserError
from tests.tiny import tiny_sd, tiny_sd2, tiny_single_file

UNET = "unet/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_folder, tmp_path / "sd")
    return tmp_path / "sd"


def edit(file: Path, **values: Any) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, **values}))


def python(name: str) -> Callable[[Path], None]:
    """Plants a module that says when it is imported."""

    def plant(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        text = (
            f"open({str(folder.parent / 'ran')!r}, 'w')\nclass Evil: pass\nPNDMScheduler = Evil\n"
        )
        (folder / name).write_text(text)

    return plant


def component(name: str, *value: object) -> Callable[[Path], None]:
    return lambda folder: edit(folder / "model_index.json", **{name: list(value)})


def asks(file: str, **values: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder / file, **values)


ATTACKS: dict[str, tuple[list[Callable[[Path], None]], str]] = {
    "image encoder": (
        [python("image_encoder/evil.py"), component("image_encoder", "evil", "Evil")],
        "component 'image_encoder' of .*evil.*no other code is run",
    ),
    "library's name": ([python("scheduler/diffusers.py")], r"diffusers\.py is Python"),
    "beside the index": ([python("Pipeline.PY")], r"Pipeline\.PY is Python"),
    "module on the path": ([component("scheduler", "evil", "Evil")], "no other code is run"),
    "safety checker": ([component("safety_checker", "evil", "Evil")], "no other code is run"),
    "unknown component": ([component("extra", "evil", "Evil")], "no other code is run"),
    "half a component": ([component("extra", "evil", None)], "no other code is run"),
    "three values": ([component("extra", "diffusers", "A", "B")], "no other code is run"),
    "class in a module": (
        [component("scheduler", "diffusers", "utils.import_utils")],
        "no other code is run",
    ),
    "no scheduler": (
        [component("scheduler", "diffusers", "DiffusionPipeline")],
        "of the class DiffusionPipeline, which is not a scheduler",
    ),
    "no tokenizer": (
        [component("tokenizer", "transformers", "pipeline")],
        "which is not a tokenizer",
    ),
    "outside": ([component("../other", "diffusers", "X")], "no other code is run"),
    "pipeline's own code": (
        [lambda f: edit(f / "model_index.json", _class_name=["evil", "Evil"])],
        "supported are",
    ),
    "kernel": (
        [asks("text_encoder/config.json", attn_implementation="somebody/kernel")],
        "asks for code of its own .'attn_implementation'",
    ),
    "kernel by another name": (
        [asks("text_encoder/config.json", _attn_implementation="flash_attention_2")],
        "asks for code of its own .'_attn_implementation'",
    ),
    "auto_map": (
        [asks("tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", None]})],
        "asks for code of its own .'auto_map'",
    ),
    "nested": (
        [asks("unet/config.json", a=[{"trust_remote_code": True}])],
        "asks for code of its own .'trust_remote_code'",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_in_a_folder_is_run(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plants, message = ATTACKS[name]
    for plant in (*plants, python("../path/evil.py")):
        plant(folder)
    monkeypatch.syspath_prepend(str(folder.parent / "path"))
    with pytest.raises(UserError, match=message) as error:
        load_pipeline(str(folder))
    assert len(str(error.value).replace(str(folder), "")) < 300
    assert "evil" not in sys.modules
    assert not list(folder.parent.rglob("ran"))


def test_a_config_folder_and_a_snapshot_are_looked_at_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DiffusionPipeline

    python("scheduler/diffusers.py")(folder)
    save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors")
    monkeypatch.setattr(DiffusionPipeline, "download", lambda *_, **__: str(folder))
    for spec in (f"{tmp_path / 'x.safetensors'}@{folder}", "owner/name"):
        with pytest.raises(UserError, match="is Python"):
            open_base(spec)


def test_what_is_not_used_is_not_opened(folder: Path) -> None:
    """An image encoder of IP-Adapters and a safety checker may be there, even damaged."""
    for name, pair in {
        "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
        "feature_extractor": ("transformers", "CLIPFeatureExtractor"),
        "safety_checker": ("stable_diffusion", "StableDiffusionSafetyChecker"),
    }.items():
        (folder / name).mkdir()
        component(name, *pair)(folder)
    pipeline: Any = load_pipeline(str(folder))
    assert pipeline.image_encoder is None
    assert pipeline.safety_checker is None


def shards(folder: Path, suffix: str, index: str, shard: str) -> None:
    """Splits a denoiser's file in two, with an index of the given name."""
    file = folder / UNET
    state = load_file(file)
    where = {k: shard.format(i % 2 + 1) for i, k in enumerate(state)}
    for name in set(where.values()):
        part = {k: v for k, v in state.items() if where[k] == name}
        if suffix == "bin":
            torch.save(part, file.with_name(name))
        else:
            save_file(part, file.with_name(name), {"format": "pt"})
    file.with_name(index).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    file.unlink()


@pytest.mark.parametrize(
    ("suffix", "index", "shard"),
    [
        # The three places that libraries have put a variant, and PyTorch's own shards.
        ("safetensors", "X.fp16.safetensors.index.json", "X.fp16-0000{}-of-00002.safetensors"),
        ("safetensors", "X.safetensors.index.fp16.json", "X.fp16-0000{}-of-00002.safetensors"),
        ("safetensors", "X.safetensors.fp16.index.json", "X-0000{}-of-00002.fp16.safetensors"),
        ("bin", "X.bin.index.json", "X-0000{}-of-00002.bin"),
    ],
)
def test_shards_open_and_are_saved(
    suffix: str, index: str, shard: str, tiny_folder: Path, folder: Path, tmp_path: Path
) -> None:
    from diffusers import UNet2DConditionModel

    stem = "diffusion_pytorch_model"
    shards(folder, suffix, index.replace("X", stem), shard.replace("X", stem))
    before, found = read_state(tiny_folder, "unet"), read_state(folder, "unet")
    assert before.keys() == found.keys()
    assert all(torch.equal(before[k], found[k]) for k in before)
    # Copied as a part that is not changed, they open in stock diffusers.
    copy_component(folder / "unet", tmp_path / "out" / "unet")
    stock = UNet2DConditionModel.from_pretrained(tmp_path / "out" / "unet").state_dict()
    assert all(torch.equal(before[k], stock[k]) for k in before)


@pytest.mark.parametrize(
    "name",
    ["../../planted.safetensors", "/tmp/planted.safetensors", "..", "a\\b.safetensors",
     "C:b.safetensors", "config.json", 7, None, ""],
)  # fmt: skip
def test_no_shard_lies_outside_its_folder(name: object, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "planted.safetensors").write_bytes((folder / TEXT).read_bytes())
    (folder / TEXT).unlink()
    index = folder / "text_encoder/model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(UserError, match="must name .safetensors files beside it"):
        load_pipeline(str(folder))
    base = open_base(str(folder))
    with pytest.raises(UserError, match="must name .safetensors files"):
        save_model(base, base.denoiser_state(), tmp_path / "runs/run/model")
    assert not (tmp_path / "runs/run/planted.safetensors").exists()
    assert not [f for f in tmp_path.glob("runs/run/**/*") if f.is_file()]


def test_several_variants_are_named(folder: Path) -> None:
    for variant in ("fp16", "bf16"):
        shutil.copy(folder / UNET, folder / f"unet/diffusion_pytorch_model.{variant}.safetensors")
    (folder / UNET).unlink()
    with pytest.raises(UserError, match=r"only as several variants .*bf16.*fp16.*rename one"):
        load_pipeline(str(folder))


def test_pointers_of_git_lfs_are_said_to_be_such(folder: Path) -> None:
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265380512\n"
    for name in ("tokenizer/merges.txt", "tokenizer/vocab.json", UNET, "unet/config.json"):
        (folder / name).write_text(text)
        with pytest.raises(UserError, match=f"{name} is a git-lfs pointer.*'git lfs pull'"):
            load_pipeline(str(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"in_channels": 9},
        {"out_channels": 8},
        {"class_embed_type": "timestep"},
    ],
)
def test_denoisers_of_other_tasks_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    folder = str(tiny_sd(tmp_path / "sd", **change))
    for open_it in (load_pipeline, Diffusion.load):
        with pytest.raises(UserError, match="give a text-to-image model"):
            open_it(folder)


@pytest.mark.filterwarnings("ignore:.*unusual size")
def test_files_of_other_tasks_are_refused(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.safetensors"
    state = load_file(tiny_single_file(tiny_folder, file))
    name = "model.diffusion_model.input_blocks.0.0.weight"
    for channels in (9, 8, 5):
        save_file({**state, name: torch.zeros(32, channels, 3, 3)}, file)
        with pytest.raises(UserError, match=f"has {channels} input and 4 output channels"):
            Diffusion.load(str(file))
    words = ["--concept", "a photo of a church", "--anchor", "a photo of a tree", "--dry-run"]
    with pytest.raises(SystemExit) as stopped:
        main(["run", "--model", str(file), *words])
    assert stopped.value.code == 2
    # One sentence, which names the user's file.
    message = capsys.readouterr().err
    assert message.startswith(f"erase: The denoiser of {file} has 5 input and 4 output channels")
    assert message.count("erase: ") == 1


def test_system_files_of_macos_are_passed_over(folder: Path, tmp_path: Path) -> None:
    for name in ("._model_index.json", "unet/._config.json", "tokenizer/.DS_Store"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    base = open_base(str(folder))
    load_pipeline(str(folder))
    save_model(base, base.denoiser_state(), tmp_path / "out")
    assert not [f.name for f in (tmp_path / "out").rglob(".*")]


def test_tokenizers_without_their_settings(tmp_path: Path) -> None:
    for make in (tiny_sd, tiny_sd2):
        folder = make(tmp_path / make.__name__)
        usual: Any = load_pipeline(str(folder))
        (folder / "tokenizer/tokenizer_config.json").unlink()
        found: Any = load_pipeline(str(folder))
        rows = [
            p.tokenizer("a church", padding="max_length", truncation=True).input_ids
            for p in (usual, found)
        ]
        assert rows[0] == rows[1]
        assert len(rows[0]) == 77
