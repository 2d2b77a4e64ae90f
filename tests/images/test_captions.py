from __future__ import annotations

import json
from pathlib import Path

import pytest

from erase.images.captions import captions
from erase.images.files import image_files
from erase.runtime.errors import UserError
from tests.eval.pictures import fill

NAMES = ("0.png", "1.png", "2.png")


def said(folder: Path) -> list[str | None]:
    return captions(folder, image_files(folder))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metadata.csv", 'file_name,text\n0.png,a cat\n2.png,"a dog, old"\n'),
        ("metadata.csv", 'Image Path,Caption\n.\\0.png,a cat\n./2.png,"a dog, old"\n'),
        ("metadata.csv", 'file_name,text,prompt\n0.png,a cat,x\n2.png,"a dog, old",y\n'),
        (
            "metadata.jsonl",
            '{"file_name": "0.png", "text": "a cat"}\n{"file_name": "2.png", "text": "a dog, old"}',
        ),
        (
            "metadata.jsonl",
            '\n{"file": "0.png", "prompt": " a cat "}\n'
            '{"file": "2.png", "prompt": "a dog, old"}\n\n',
        ),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lists_of_a_folder(tmp_path: Path, name: str, content: str, mark: str) -> None:
    fill(tmp_path, *NAMES)
    (tmp_path / name).write_bytes((mark + content.replace("\n", "\r\n")).encode())
    assert said(tmp_path) == ["a cat", None, "a dog, old"]


@pytest.mark.parametrize("suffix", [".txt", ".caption", ".TXT"])
def test_texts_beside_images_as_windows_saves_them(tmp_path: Path, suffix: str) -> None:
    fill(tmp_path, *NAMES)
    (tmp_path / f"1{suffix}").write_bytes(b"\xef\xbb\xbf" + "a d\u00f6g\r\n".encode())
    (tmp_path / f"2{suffix}").write_text("\n")
    assert said(tmp_path) == [None, "a dög", None]


def test_what_a_mac_leaves_beside_each_file_is_passed_over(tmp_path: Path) -> None:
    fill(tmp_path, *NAMES)
    for name in (*NAMES, "metadata.csv", "0.txt"):
        (tmp_path / f"._{name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_bytes(b"\x00\x00\x00\x01Bud1")
    assert [f.name for f in image_files(tmp_path)] == list(NAMES)
    assert said(tmp_path) == [None] * 3


def test_an_accent_is_one_letter_or_two(tmp_path: Path) -> None:
    fill(tmp_path, "e\u0301.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\né.png,a cat\n", encoding="utf-8")
    assert said(tmp_path) == ["a cat"]


def test_a_picture_of_a_subfolder_is_another_one(tmp_path: Path) -> None:
    fill(tmp_path, "0.png", "sub/0.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\nsub/0.png,a cat\n0.png,a dog\n")
    assert said(tmp_path) == ["a dog"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "metadata.csv",
            "file_name,text\n0.png,a\n../1.png,b\n",
            "line 3 names the file '../1.png'",
        ),
        ("metadata.csv", "file_name,text\n/0.png,a\n", "is not in the folder"),
        ("metadata.csv", "file_name;text\n0.png;a\n", "separated by semicolons"),
        ("metadata.csv", 'file_name,text\n0.png,"a\n', "quote on line 2 that is not closed"),
        ("metadata.csv", "file_name,title\n0.png,a\n", "line 2 needs 'text', as text"),
        ("metadata.csv", "file_name,prompt,caption\n0.png,a,b\n", "line 2 needs 'text', as text"),
        ("metadata.jsonl", '{"file_name": "0.png", "text": null}', "line 1 needs 'text', as text"),
        (
            "metadata.jsonl",
            '{"file_name": "0.png", "text": "\\ud800"}',
            "can't be read at line 1 .*surrogates",
        ),
        ("metadata.jsonl", '["0.png", "a"]', "not an object"),
        ("metadata.jsonl", '{"file_name": "0.png"', "can't be read at line 1"),
        ("0.txt", b"\xe4\xf6", "not UTF-8"),
        ("0.caption", "a\0", "null bytes"),
        ("0.txt", "another", "0.png has two different captions"),
    ],
)
def test_bad_captions_are_one_sentence(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    fill(tmp_path, *NAMES)
    if name == "0.txt" and content == "another":
        line = json.dumps({"file_name": "0.png", "text": "a cat"})
        (tmp_path / "metadata.jsonl").write_text(line)
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError, match=message) as error:
        said(tmp_path)
    assert len(str(error.value).replace(str(tmp_path), "")) < 300
