"""Whatever happened to a user's file, reading it works or is one sentence."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from erase.eval.comparison.compare import read_cells
from erase.eval.folders.scan import scan, summary
from erase.eval.instruments.judges import load_judge
from erase.eval.instruments.weights import read_card, read_labels, read_weights
from erase.eval.report.evaluate import read_report
from erase.images.captions import captions
from erase.images.files import image_files, read_image, read_manifest
from erase.prompts.concept import load_concept
from erase.prompts.prompt_set import load_set
from erase.recipes.recipe import load_recipe
from erase.runs.folder import read_facts
from erase.runtime.errors import UserError
from erase.runtime.files import write_json
from tests.eval.pictures import fill, picture

CELLS = Path(__file__).parents[2] / "benchmarks" / "cells" / "compare.tar.gz"


@dataclass(frozen=True)
class Case:
    """A loader, and a file that it reads without complaint.

    Attributes:
        name: of the file.
        content: sound.
        load: reads it in a folder that holds the images ``0.png`` and ``1.png``.
    """

    name: str
    content: bytes
    load: Callable[[Path], object]


def _image(kind: str) -> bytes:
    made = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(3).save(made, kind, exif=exif)
    return made.getvalue()


def _tensors() -> bytes:
    made = io.BytesIO()
    torch.save({"state_dict": {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}}, made)
    return made.getvalue()


def _safetensors() -> bytes:
    from safetensors.torch import save

    card = {"arch": "a", "labels": ["x", "y"], "size": 8, "mean": [0.5] * 3, "std": [0.2] * 3}
    tensors = {"fc.weight": torch.zeros(2, 3), "fc.bias": torch.zeros(2)}
    return save(tensors, {"judge": json.dumps(card)})


def _weights(file: Path) -> object:
    return read_card(read_weights(file)[1], file, "a")


def _cell() -> bytes:
    with tarfile.open(CELLS) as archive:
        file = archive.extractfile("compare/cells/salun-mini/church-0/cell.json")
        assert file
        return file.read()


def _again(load: Callable[[Path], Any]) -> Callable[[Path], object]:
    """What was read must be writable: reports and manifests repeat it."""
    return lambda file: json.dumps(load(file), ensure_ascii=False).encode()


def _labelled(file: Path) -> object:
    return read_labels(file.with_name(file.name.removesuffix(".labels.txt")))


def _scanned(file: Path) -> object:
    found = scan(file.parent)
    facts = [[str(p.file), p.prompt, p.k, p.seed, dict(p.labels)] for p in found.used]
    return json.dumps([facts, summary(found)], ensure_ascii=False).encode()


LINES = [
    {
        "file": f"{i}.png",
        "sha256": "",
        "set": "s",
        "case_number": i,
        "k": 0,
        "seed": i,
        "prompt": f"a dög {i}",
        "role": "retain",
        "labels": {"object": "dog"},
    }
    for i in range(2)
]
MANIFEST = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in LINES).encode()
HUB = b'{"file_name": "0.png", "text": "a cat"}\n{"file_name": "1.png", "text": "a dog"}\n'
CSV = (
    "\ufeffcase_number,prompt,seed,guidance_scale,width,height,size,file,object\r\n"
    '0,"a dög, ""old""",7,7.5,64,64,64x64,0.png,dog\r\n1,,8,7,64,64,64,1.png,cat\r\n'
).encode()
CONCEPT = (
    'kind = "object"\nword = "dög"\ntemplates = ["a {style} {}"]\nslot = { style = ["noto"] }\n'
    'axis = "object"\nlabel = "dog-face"\nevaluation = "mini"\nretain = ["a cat"]\n'
    'neighbours = ["fox"]\ntuning = false\njudge = "mini"\n'
).encode()
RECIPE = b'method = "salun"\nlr = 1e-5\nsteps = 7\nmask = "saliency"\nratio = 0.5\nalpha = 1.0\n'
REPORT = json.dumps({"verdict": ["x"], "summary": {"base": {"ua": None}}}).encode()
FACTS = json.dumps({"model": {"source": "mini"}, "stages": {"images": {"hash": "x"}}}).encode()


def _asked(file: Path) -> list[str | None]:
    return captions(file.parent, image_files(file.parent))


CASES = [
    Case("own.toml", CONCEPT, lambda f: load_concept(str(f)).prompts()),
    Case("recipe.toml", RECIPE, lambda f: load_recipe(str(f))),
    Case("set.csv", CSV, _again(lambda f: [r.__dict__ for r in load_set(str(f)).rows])),
    Case("metadata.csv", b"file_name,text\n0.png,a cat\n1.png,a dog\n", _again(_asked)),
    Case("metadata.jsonl", HUB, _again(_asked)),
    Case("0.txt", "\ufeffa dög\r\n".encode(), _again(_asked)),
    Case("0.caption", "a dög\n".encode(), _again(_asked)),
    Case("manifest.jsonl", MANIFEST, _again(lambda f: read_manifest(f.parent))),
    Case("manifest.jsonl", MANIFEST, _scanned),
    Case("w.pth.labels.txt", b"dog\ncat\n", _again(_labelled)),
    Case("2.png", _image("PNG"), read_image),
    Case("2.jpg", _image("JPEG"), read_image),
    Case("2.webp", _image("WEBP"), _scanned),
    Case("report.json", REPORT, lambda f: read_report(f.parent)["verdict"]),
    Case("run.json", FACTS, read_facts),
    Case("cell.json", _cell(), lambda f: read_cells([f])),
    Case("judge.safetensors", _safetensors(), _weights),
    Case("judge.pth", _tensors(), _weights),
]
ODD = [None, True, -1, 2.5, 10**30, "", "x", "../0.png", "\ud800", [], {}, [[]], {"a": None}]
TEXTS = [b"\0", b'"', b",", b"\n", b"\xff", b"\xef\xbb\xbf", "é".encode(), b"{", b"9" * 5000]


@st.composite
def corruptions(draw: st.DrawFn, content: bytes, name: str) -> bytes:
    """One small corruption of a file's content."""
    at = draw(st.integers(0, len(content)))
    end = draw(st.integers(at, min(len(content), at + 8)))
    kinds = ["cut", "drop", "insert", "flip", "encode", "double"]
    kinds += ["swap", "rename"] if name.endswith((".json", ".jsonl")) else []
    kinds += ["column"] if name.endswith(".csv") else []
    match draw(st.sampled_from(kinds)):
        case "cut":
            return content[:at]
        case "drop":
            return content[:at] + content[end:]
        case "insert":
            return content[:at] + draw(st.sampled_from(TEXTS)) + content[at:]
        case "flip":
            return (
                content[:at]
                + bytes(b ^ draw(st.integers(1, 255)) for b in content[at:end])
                + (content[end:])
            )
        case "encode":
            encoding = draw(st.sampled_from(["utf-16", "utf-32", "cp1252", "utf-7"]))
            return content.decode("latin-1").encode(encoding, "replace")
        case "double":
            return content + content
        case "column":
            lines = [line.split(b",") for line in content.split(b"\n")]
            index = draw(st.integers(0, 8))
            return b"\n".join(b",".join([*row[:index], *row[index + 1 :]]) for row in lines)
        case "rename":
            names = sorted(set(re.findall(rb'"(\w+)":', content)))
            return content.replace(b'"%s":' % draw(st.sampled_from(names)), b'"other":', 1)
        case _:
            values = [
                m.span(1) for m in re.finditer(rb':\s*("[^"]*"|[\d.]+|null|\[\]|\{)', content)
            ]
            start, stop = draw(st.sampled_from(values))
            odd = json.dumps(draw(st.sampled_from(ODD))).encode()
            return content[:start] + odd + content[stop:]


def _check(case: Case, folder: Path, content: bytes) -> None:
    fill(folder, "0.png", "1.png")
    file = folder / case.name
    if case.name.endswith(".labels.txt"):
        file.with_name("w.pth").write_bytes(b"")
    file.write_bytes(content)
    try:
        case.load(file)
    except UserError as error:
        said = str(error).replace(str(folder), "")
        assert "\n" not in said and len(said) <= 300, said


def _named(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("case", CASES, ids=_named)
def test_what_is_sound_is_read(case: Case, tmp_path: Path) -> None:
    fill(tmp_path, "0.png", "1.png")
    (tmp_path / case.name).write_bytes(case.content)
    case.load(tmp_path / case.name)


@pytest.mark.parametrize("case", CASES, ids=_named)
@given(data=st.data())
@settings(max_examples=12)
def test_a_corrupted_file_is_one_sentence(
    case: Case, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = data.draw(corruptions(case.content, case.name))
    _check(case, tmp_path_factory.mktemp("x"), content)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=_named)
@given(data=st.data())
@settings(max_examples=1000)
def test_any_corrupted_file_is_one_sentence(
    case: Case, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = data.draw(corruptions(case.content, case.name))
    if data.draw(st.booleans()):
        content = data.draw(corruptions(content, "x"))
    _check(case, tmp_path_factory.mktemp("x"), content)


@pytest.mark.parametrize("name", ["none", "folder"])
def test_what_is_not_there_or_a_folder_is_one_sentence(tmp_path: Path, name: str) -> None:
    for suffix in ("toml", "csv", "json", "pth", "safetensors", "png"):
        file = tmp_path / f"{name}.{suffix}"
        if name == "folder":
            file.mkdir()
        for load in {
            "toml": [lambda f: load_concept(str(f)), lambda f: load_recipe(str(f))],
            "csv": [lambda f: load_set(str(f))],
            "json": [read_facts, lambda f: read_cells([f])],
            "pth": [lambda f: load_judge(f"torchvision:resnet18@{f}")],
            "safetensors": [lambda f: load_judge(f"torchvision:resnet18@{f}")],
            "png": [read_image],
        }[suffix]:
            with pytest.raises(UserError):
                load(file)  # type: ignore[operator]


def test_reports_are_written_as_they_are_read(tmp_path: Path) -> None:
    write_json(tmp_path / "report.json", ["not a report"])
    with pytest.raises(UserError, match="can't be read"):
        read_report(tmp_path)
