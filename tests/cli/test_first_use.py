"""What people type wrong: exit code 2 and one sentence, in a dry run and for real alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from erase.cli import main as command
from erase.cli.main import main
from erase.eval.metrics import list_metrics
from tests.tiny import tiny_single_file

CHURCH = ["run", "--concept", "church"]
TREE = ["run", "--concept", "a tree", "--anchor", "a lamp"]
SLOW = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _one_parser() -> object:
    """Building the parser takes longer than most of what is tested here."""
    patch = pytest.MonkeyPatch()
    patch.setattr(command, "build_parser", cache(command.build_parser))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder of things that are wrong."""
    place = tmp_path_factory.mktemp("wrong")
    (place / "tiny").symlink_to(tiny_folder)
    (place / "empty").mkdir()
    (place / "file.txt").write_text("church\n")
    (place / "junk.safetensors").write_bytes(b"\xff" * 64)
    whole = tiny_single_file(tiny_folder, place / "whole.safetensors")
    (place / "short.safetensors").write_bytes(whole.read_bytes()[:100_000])
    torch.save({"state_dict": {"a": torch.zeros(1)}}, place / "evil.ckpt")
    (place / "none.csv").write_text("")
    (place / "nocolumn.csv").write_text("shade,seed\nred,1\n")
    (place / "binary.csv").write_bytes(bytes(range(128, 256)))
    (place / "norows.csv").write_text("prompt\n")
    (place / "badseed.csv").write_text("prompt,seed\na cat,many\n")
    (place / "utf16.csv").write_text("prompt\na cat\n", encoding="utf-16-be")
    (place / "broken.toml").write_text("method = salun\n")
    (place / "unknown.toml").write_text('method = "salun"\nstep = 3\n')
    (place / "keys.safetensors").write_bytes(b"")
    save_file({"other": torch.zeros(2)}, place / "keys.safetensors")
    (place / "pointer.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    )
    notmodel = place / "notmodel"
    notmodel.mkdir()
    (notmodel / "model_index.json").write_text("{}")
    shards = place / "shards"
    shards.mkdir()
    for part in ("model_index.json", "scheduler", "tokenizer", "text_encoder", "vae"):
        (shards / part).symlink_to(tiny_folder / part)
    (shards / "unet").mkdir()
    (shards / "unet/config.json").symlink_to(tiny_folder / "unet/config.json")
    (shards / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"conv_in.weight": "part-1.safetensors"}})
    )
    for name in ("pictures", "broken", "truncated"):
        (place / name).mkdir()
        Image.effect_noise((64, 64), 90).convert("RGB").save(place / name / "a.png")
    (place / "broken/b.png").write_bytes(b"no picture")
    data = (place / "truncated/a.png").read_bytes()
    (place / "truncated/a.png").write_bytes(data[: len(data) // 2])
    return place


SAID: dict[str, tuple[list[str], str]] = {
    # The forty of the first review, in its order.
    "model-nowhere": ([*TREE, "--model", "nosuch/x/y"], "There is no model 'nosuch/x/y'"),
    "model-path": ([*TREE, "--model", "./nosuch.safetensors"], "There is no model './nosuch"),
    "model-junk": ([*TREE, "--model", "{}/junk.safetensors"], "can't be read"),
    "model-short": ([*TREE, "--model", "{}/short.safetensors"], "can't be read"),
    "model-empty": ([*TREE, "--model", "{}/empty"], "is not a pipeline"),
    "model-braces": ([*TREE, "--model", "{}/notmodel"], "names no pipeline"),
    "model-text": ([*TREE, "--model", "{}/file.txt"], "is not a model file"),
    "model-pickle": ([*TREE, "--model", "{}/evil.ckpt"], "is not a complete Stable Diffusion"),
    "concept-typo": (["run", "--concept", "chruch"], "Did you mean 'church'?"),
    "concept-empty": (["run", "--concept", ""], "--concept is empty"),
    "model-unset": (["run", "--concept", "church", "--model", ""], "--model is empty"),
    "attacks-empty": (["run", "--concept", "church", "--attacks", ""], "--attacks is empty"),
    "shared-file": ([*TREE, "--shared", "{}/file.txt"], "file.txt is a file: give a folder"),
    "not-text": (["run", "--concept", "\udcff"], "'?' is not UTF-8 text"),
    "floor-none": (
        ["run", "--concept", "church", "--attacks", "words", "--floor", "/nosuch"],
        "There is no model '/nosuch'",
    ),
    "no-train": (
        ["run", "--concept", "church", "--stages", "images, mask", "--anyway"],
        "--anyway has no effect without the stage train",
    ),
    "concept-none": (["run"], "No concept was given"),
    "concept-blank": (["run", "--concept", "   ", "--anchor", "truck"], "blank"),
    "concept-bracket": (["run", "--concept", "a [photo"], "put one pair of brackets"),
    "anchor-itself": ([*CHURCH, "--anchor", "church"], "equals its anchor"),
    "anchor-typo": ([*CHURCH, "--anchor", "turck"], "Did you mean 'truck'?"),
    "concept-twice": ([*CHURCH, "--concept", "church"], "was given twice"),
    "concept-all": (["run", "--concept", "all", "--concept", "church"], "give it alone"),
    "anchors-three": (
        [*CHURCH, "--concept", "dog", *["--anchor", "truck"] * 3],
        "3 anchors were given for 2 concepts",
    ),
    "recipe-typo": ([*CHURCH, "--recipe", "salun-mni"], "Did you mean 'salun-mini'"),
    "recipe-broken": ([*CHURCH, "--recipe", "{}/broken.toml"], "is not valid TOML"),
    "recipe-method": (
        [*CHURCH, "--recipe", "salun-mini", "--method", "esd"],
        "is not for the method",
    ),
    "steps-negative": ([*CHURCH, "--steps", "-5"], "must be >= 1"),
    "steps-float": ([*CHURCH, "--steps", "1e3"], "is not a whole number"),
    "steps-word": ([*CHURCH, "--steps", "abc"], "steps"),
    "lr-nan": ([*CHURCH, "--lr", "nan"], "lr"),
    "lr-zero": ([*CHURCH, "--lr", "0"], "must be > 0"),
    "size-odd": ([*CHURCH, "--size", "100"], "a multiple of 8"),
    "size-huge": ([*TREE, "--model", "{}/tiny", "--size", "1000000"], "GiB"),
    "eta": ([*CHURCH, "--eta", "2"], "is not a setting of the method salun"),
    "seed-negative": ([*CHURCH, "--seed", "-1"], "from 0 to"),
    "seed-huge": ([*CHURCH, "--seed", str(10**23)], "too large"),
    "out-file": ([*CHURCH, "--out", "{}/file.txt"], "is a file"),
    "out-root": ([*CHURCH, "--out", "/"], "holds files that are not from a run"),
    "out-proc": ([*CHURCH, "--out", "/proc/x/y"], "can't be written"),
    "stages": ([*CHURCH, "--stages", "foo"], "There is no stage 'foo'"),
    "eval-retain": ([*CHURCH, "--eval-retain", "0"], "must be >= 1"),
    "retain-nowhere": ([*CHURCH, "--retain", "nosuch.csv"], "can't be read"),
    "retain-column": ([*CHURCH, "--retain", "{}/nocolumn.csv"], "prompt"),
    "retain-empty": ([*CHURCH, "--retain", "{}/none.csv"], "none.csv"),
    "retain-binary": ([*CHURCH, "--retain", "{}/binary.csv"], "is not UTF-8 text"),
    "forget-empty": ([*CHURCH, "--forget-folder", "{}/empty"], "put some in it"),
    "forget-broken": ([*CHURCH, "--forget-folder", "{}/broken"], "remove or replace it"),
    "retain-captions": ([*CHURCH, "--retain-folder", "{}/pictures"], "has no caption"),
    "judge-name": ([*CHURCH, "--judge", "torchvision:nosuch"], "no classifier 'nosuch'"),
    "judge-labels-file": (
        [*CHURCH, "--judge", "torchvision:resnet50@{}/file.txt"],
        "is not a weights file",
    ),
    "flag-typo": (["run", "--concpet", "church"], "Did you mean '--concept'?"),
    "threshold": ([*CHURCH, "--nudity.threshold", "2"], "not in [0.01, 1]"),
    # Others of the same kinds.
    "judge-library": ([*CHURCH, "--judge", "resnet50"], "is not a judge"),
    "judge-nowhere": ([*CHURCH, "--judge", "timm:resnet18@no.pth"], "does not exist"),
    "judge-keys": (
        [*CHURCH, "--judge", "torchvision:resnet18@{}/keys.safetensors"],
        "does not fit the network",
    ),
    "judge-pointer": (
        [*CHURCH, "--judge", "torchvision:resnet18@{}/pointer.safetensors"],
        "git-lfs pointer",
    ),
    "judge-class": (
        ["run", "--concept", "church", "--judge", "object=mini"],
        "is not a judge",
    ),
    "judge-axis": ([*CHURCH, "--judge", "colour=torchvision:resnet18"], "has a label 'colour'"),
    "judge-clip": ([*CHURCH, "--judge", "open_clip:NoSuch"], "open_clip has no model"),
    "clip-name": ([*CHURCH, "--clip", "open_clip:NoSuch"], "open_clip has no model"),
    "clip-library": ([*CHURCH, "--clip", "torchvision:resnet18"], "is not a CLIP model"),
    "features": ([*CHURCH, "--features", "inceptoin"], "is not a feature network"),
    "features-file": ([*CHURCH, "--features", "inception@no.pth"], "There is no file"),
    "lpips": ([*CHURCH, "--lpips", "alexnet"], "is not a perceptual distance"),
    "nudity-classes": ([*CHURCH, "--nudity.classes", "esd10"], "no NudeNet class"),
    "model-shards": ([*TREE, "--model", "{}/shards"], "shards"),
    "model-pointer": ([*TREE, "--model", "{}/pointer.safetensors"], "git-lfs pointer"),
    "neighbours-nowhere": ([*CHURCH, "--neighbours", "no.csv"], "can't be read"),
    "neighbours-column": ([*CHURCH, "--neighbours", "{}/nocolumn.csv"], "prompt"),
    "retain-rows": ([*CHURCH, "--retain", "{}/norows.csv"], "has no prompts"),
    "retain-seed": ([*CHURCH, "--retain", "{}/badseed.csv"], "it must be a whole number"),
    "retain-utf16": ([*CHURCH, "--retain", "{}/utf16.csv"], "null bytes"),
    "forget-truncated": ([*CHURCH, "--forget-folder", "{}/truncated"], "remove or replace it"),
    "forget-nowhere": ([*CHURCH, "--forget-folder", "{}/nothing"], "There is no image folder"),
    "anchor-blank": ([*CHURCH, "--anchor", " "], "blank"),
    "recipe-key": ([*CHURCH, "--recipe", "{}/unknown.toml"], "Did you mean 'steps'"),
}


def _case(name: str, here: Path, out: Path) -> tuple[list[str], str]:
    argv, expected = SAID[name]
    argv = [word.replace("{}", str(here)) for word in argv]
    return [*argv, *([] if "--out" in argv else ["--out", str(out)])], expected


def fails(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    """The one sentence that a command ends with, and the exit code 2."""
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 2, said
    assert said.count("erase: ") == 1 and said.startswith("erase: "), said
    assert "Traceback" not in said and len(said) <= 320, said
    return said


@pytest.mark.parametrize(
    "more", [pytest.param(("--dry-run",), id="dry"), pytest.param((), id="real", marks=SLOW)]
)
@pytest.mark.parametrize("name", SAID)
def test_a_mistake_is_one_sentence(
    name: str,
    more: tuple[str, ...],
    here: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv, expected = _case(name, here, tmp_path / "run")
    assert expected in fails(capsys, [*argv, *more])
    # Nothing was begun.
    assert not list(tmp_path.rglob("*.png")) and not (tmp_path / "run" / "run.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("more", [("--dry-run",), ()], ids=["dry", "real"])
def test_a_device_that_is_not_there(
    more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [*CHURCH, "--device", "cuda", "--out", str(tmp_path / "run"), *more]
    assert "use --device cpu" in fails(capsys, argv)


def test_a_hub_model_without_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*TREE, "--model", "user/some-model", "--out", str(tmp_path / "run")]
    said = fails(capsys, argv)
    assert "There is no file or folder 'user/some-model', and the hub can't be asked" in said
    main([*argv, "--dry-run"])
    assert "unknown until the model is downloaded" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_a_learning_rate_that_diverges(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = "--forget-images 2 --retain-images 2 --batch-size 2 --sampling-steps 2 --steps 40"
    argv = [*TREE, "--model", str(here / "tiny"), *few.split(), "--preview", "0"]
    argv += ["--device", "cpu", "--out", str(tmp_path / "run"), "--stages", "images,mask,train"]
    with pytest.raises(SystemExit) as stopped:
        main([*argv, "--lr", "1e20"])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert stopped.value.code == 2
    assert re.search(r"erase: .* not finite .*step \d+: .*--lr", said), said


def test_unknown_metrics_are_answered_with_the_known_ones(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["eval", "--images", str(here / "pictures"), "--metrics", "foo", "--device", "cpu"]
    said = fails(capsys, [*argv, "--out", str(tmp_path / "out")])
    assert f"choose from {', '.join(list_metrics())}" in said


def test_a_comparison_checks_its_judge_first(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["compare", "--recipes", "uce", "--concepts", "church", "--out", str(tmp_path / "c")]
    argv += ["--judge", f"torchvision:resnet18@{here / 'keys.safetensors'}"]
    for more in (["--dry-run"], []):
        assert "does not fit the network" in fails(capsys, [*argv, *more])
    assert not list(tmp_path.rglob("*.png"))


def test_a_judge_that_would_be_downloaded_is_known_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from erase.eval.instruments.judges import load_judge
    from erase.runtime.errors import UserError

    def never(*_: object, **__: object) -> object:
        raise AssertionError("a download was begun")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", never)
    opened: Callable[[str], object] = lambda spec: load_judge(spec, ["x", "y"], fetch=False)  # noqa: E731
    assert "tench" in load_judge("torchvision:resnet18", fetch=False).labels
    assert load_judge("open_clip:ViT-B-32", ["x", "y"], fetch=False).labels == ("x", "y")
    for spec, problem in (
        ("torchvision:resnet19", "no classifier"),
        ("timm:resnet_18", "timm has no model"),
        ("open_clip:ViT-B-32@no_tag", "no weights 'no_tag'"),
    ):
        with pytest.raises(UserError, match=problem):
            opened(spec)
