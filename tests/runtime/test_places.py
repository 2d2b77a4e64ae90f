"""Reports name files without saying where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from erase.runtime.places import near, short, without_places


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ada/sd.safetensors", "sd.safetensors"),
        ("torchvision:resnet50@/home/ada/my files/w.pth", "torchvision:resnet50@w.pth"),
        ("object=timm:A@/x/a.pth,style=timm:B@/x/b.pth", "object=timm:A@a.pth,style=timm:B@b.pth"),
        (r"inception@C:\Users\ada\w.pth", "inception@w.pth"),
        ("--out=/tmp/run", "--out=run"),
        ("/x/recipes/a.toml,/x/recipes/b.toml", "a.toml,b.toml"),
        ("salun,/x/b.toml", "salun,b.toml"),
        ("runs/church", "runs/church"),
        ("stabilityai/sdxl", "stabilityai/sdxl"),
        ("a photo of a church and/or a chapel", "a photo of a church and/or a chapel"),
    ],
)
def test_an_absolute_path_leaves_the_files_name(text: str, expected: str) -> None:
    assert short(text) == expected


def test_sentences_lose_the_paths_that_the_sources_name() -> None:
    facts = {"judges": {"object": {"spec": "timm:A@/x/a.pth", "file": "/x/a.pth", "size": 64}}}
    report = {"facts": facts, "warnings": ["The judge timm:A@/x/a.pth was assumed."], "n": 3}
    assert without_places(report, facts) == {
        "facts": {"judges": {"object": {"spec": "timm:A@a.pth", "file": "a.pth", "size": 64}}},
        "warnings": ["The judge timm:A@a.pth was assumed."],
        "n": 3,
    }


def test_a_folder_is_named_as_one_would_type_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert near(tmp_path / "runs/church") == near(Path("runs/church")) == "runs/church"
    assert near(Path("/elsewhere/church")) == "church"
