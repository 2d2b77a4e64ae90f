"""Images are made in whole planned batches, and read from any folder a user has."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from erase.diffusion.model import Diffusion
from erase.images.files import image_files, missing, read_image, read_manifest
from erase.images.make import Shared, batches, generate, is_begun
from erase.images.request import Request, Sampler, Shot
from erase.runtime.errors import UserError

SAMPLER = Sampler("ddim", 2, 3.0)


def requests(count: int) -> list[Request]:
    return [
        Request("toy", i, 0, f"prompt {i}", 100 + i, "forget", {"object": "x"})
        for i in range(count)
    ]


def pixels(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in sorted(folder.glob("*.png"))}


def test_manifest_names_every_image_with_its_hash(tiny: Diffusion, tmp_path: Path) -> None:
    generate(tiny, requests(3), tmp_path, SAMPLER, batch=2)
    rows = [json.loads(x) for x in (tmp_path / "manifest.jsonl").read_text().splitlines()]
    assert [r["file"] for r in rows] == ["00000_0.png", "00001_0.png", "00002_0.png"]
    for i, row in enumerate(rows):
        data = (tmp_path / row["file"]).read_bytes()
        assert row["sha256"] == hashlib.sha256(data).hexdigest()
        assert (row["prompt"], row["seed"], row["k"]) == (f"prompt {i}", 100 + i, 0)
        assert row["labels"] == {"object": "x"}


def test_an_interrupted_folder_ends_with_the_same_bytes(tiny: Diffusion, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        generate(tiny, requests(5), folder, SAMPLER, batch=2)
    (cut / "manifest.jsonl").unlink()
    (cut / "00002_0.png").unlink()
    (cut / "00004_0.png").unlink()
    generate(tiny, requests(5), cut, SAMPLER, batch=2)
    assert pixels(cut) == pixels(whole)


def test_an_image_that_was_removed_is_made_again(tiny: Diffusion, tmp_path: Path) -> None:
    generate(tiny, requests(5), tmp_path / "a", SAMPLER, batch=2)
    before = pixels(tmp_path / "a")
    gone = tmp_path / "a" / requests(5)[2].file
    gone.unlink()
    assert missing(tmp_path) == [gone]
    generate(tiny, requests(5), tmp_path / "a", SAMPLER, batch=2)
    assert pixels(tmp_path / "a") == before and not missing(tmp_path)


def test_an_image_that_was_altered_is_made_again_and_not_taken_for_the_truth(
    tiny: Diffusion, tmp_path: Path
) -> None:
    generate(tiny, requests(4), tmp_path, SAMPLER, batch=2)
    before = pixels(tmp_path)
    Image.new("RGB", (16, 16)).save(tmp_path / requests(4)[3].file)
    (tmp_path / requests(4)[0].file).unlink()
    generate(tiny, requests(4), tmp_path, SAMPLER, batch=2)
    assert pixels(tmp_path) == before


def test_runs_find_each_others_batches(
    tiny: Diffusion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Shared(tmp_path / "shared", "tiny")
    generate(tiny, requests(5), tmp_path / "a", SAMPLER, batch=2, shared=shared)
    made: list[str] = []
    sample = Diffusion.sample

    def counted(self: Diffusion, shots: list[Shot], sampler: Sampler) -> np.ndarray:  # type: ignore[type-arg]
        made.extend(s.prompt for s in shots)
        return sample(self, shots, sampler)

    monkeypatch.setattr(Diffusion, "sample", counted)
    # The same first two batches, then another third one.
    generate(tiny, requests(6), tmp_path / "b", SAMPLER, batch=2, shared=shared)
    assert made == ["prompt 4", "prompt 5"]
    a, b = pixels(tmp_path / "a"), pixels(tmp_path / "b")
    assert {k: b[k] for k in list(a)[:4]} == {k: a[k] for k in list(a)[:4]}
    # Another model shares nothing.
    other = Shared(tmp_path / "shared", "another")
    generate(tiny, requests(2), tmp_path / "c", SAMPLER, batch=2, shared=other)
    assert len(made) == 4
    # A batch that somebody took an image from is made again.
    place = shared.place(requests(2), SAMPLER)
    (place / "1.png").unlink()
    generate(tiny, requests(2), tmp_path / "d", SAMPLER, batch=2, shared=shared)
    assert len(made) == 6 and (place / "1.png").exists()
    assert {k: b[k] for k in list(a)[:2]} == pixels(tmp_path / "d")


def test_batch_size_moves_no_byte_by_more_than_one(tiny: Diffusion, tmp_path: Path) -> None:
    for batch in (1, 4):
        generate(tiny, requests(4), tmp_path / str(batch), SAMPLER, batch=batch)
    for i in range(4):
        one, four = (
            np.asarray(Image.open(tmp_path / b / f"{i:05d}_0.png")).astype(int) for b in "14"
        )
        assert np.abs(one - four).max() <= 1
        assert one.std() > 1


def test_a_folder_of_other_requests_is_refused(tiny: Diffusion, tmp_path: Path) -> None:
    generate(tiny, requests(1), tmp_path, SAMPLER, batch=1)
    with pytest.raises(UserError, match="another run"):
        generate(tiny, requests(2), tmp_path, SAMPLER, batch=1)


def test_what_replaces_images_leaves_all_else_in_the_folder(
    tiny: Diffusion, tmp_path: Path
) -> None:
    generate(tiny, requests(3), tmp_path, SAMPLER, batch=1)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "data").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    generate(tiny, requests(2), tmp_path, SAMPLER, batch=1, replace=True)
    assert {f.name for f in tmp_path.iterdir()} == {
        *("00000_0.png", "00001_0.png", "manifest.jsonl", "plan.json"),
        *("notes.txt", "data", "photo.png"),
    }


def test_a_plan_of_something_else_is_no_folder_of_images(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"plan": "ours", "images": 3}')
    assert is_begun(tmp_path)
    for text in ('{"chapters": 5}', '{"plan": "of the year"}', "[]", "{"):
        (tmp_path / "plan.json").write_text(text)
        assert not is_begun(tmp_path)


def test_a_batch_has_one_guidance_scale() -> None:
    mixed = [Request("s", i, 0, "p", i, "forget", {}, g) for i, g in enumerate((1, 1, 2, 2, 2))]
    assert [len(b) for b in batches(mixed, 2)] == [2, 2, 1]


def test_a_batch_has_one_size() -> None:
    sizes = (None, None, (16, 24), (16, 24), (24, 16))
    mixed = [Request("s", i, 0, "p", i, "forget", size=s) for i, s in enumerate(sizes)]
    assert [len(b) for b in batches(mixed, 4)] == [2, 2, 1]


def test_a_requests_size_is_honoured(tiny: Diffusion, tmp_path: Path) -> None:
    asked = [Request("toy", i, 0, "p", 5, "forget") for i in range(4)]
    sizes = (None, (16, 24), (32, None), (16, 16))
    asked = [replace(r, size=size) for r, size in zip(asked, sizes, strict=True)]
    generate(tiny, asked, tmp_path / "a", SAMPLER, batch=2)
    own = tiny.size
    shapes = [read_image(tmp_path / "a" / r.file).shape[:2] for r in asked]
    assert shapes == [(own, own), (16, 24), (32, own), (16, 16)]
    # A size that is given for all images goes before the rows'.
    generate(tiny, asked, tmp_path / "b", replace(SAMPLER, size=16), batch=2)
    assert {read_image(tmp_path / "b" / r.file).shape[:2] for r in asked} == {(16, 16)}
    # Square ones are those that a sampler's size makes.
    assert pixels(tmp_path / "b")["00003_0.png"] == pixels(tmp_path / "a")["00003_0.png"]


def test_missing_manifest_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no manifest"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "1", "CMYK", "I;16"])
def test_every_mode_is_read_as_rgb(mode: str, tmp_path: Path) -> None:
    file = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    if mode == "I;16":
        Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(file)
    else:
        Image.new("RGB", (8, 8), "white").convert(mode).save(file)
    read = read_image(file)
    assert read.shape == (8, 8, 3)
    assert read.dtype == np.uint8
    assert read.min() > 240 or mode == "I;16"


def test_transparency_shows_white_and_not_what_lies_under_it(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png") == 255).all()


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 128 * 257, np.uint16)).save(tmp_path / "x.png")
    assert abs(int(read_image(tmp_path / "x.png")[0, 0, 0]) - 128) <= 1


def test_images_are_cropped_to_a_square_of_the_asked_size(tmp_path: Path) -> None:
    image = Image.new("RGB", (30, 10), "black")
    image.paste("white", (10, 0, 20, 10))
    image.save(tmp_path / "x.png")
    read = read_image(tmp_path / "x.png", 8)
    assert read.shape == (8, 8, 3)
    assert (read[:, 2:6] > 250).all()


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_unreadable_images_are_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    if content is None:
        Image.effect_noise((64, 64), 50).save(file)
        content = file.read_bytes()[:-400]
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.png can't be read"):
        read_image(file)


def test_empty_and_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no images"):
        image_files(tmp_path)
    with pytest.raises(UserError, match="There is no image folder"):
        image_files(tmp_path / "none")


def test_a_hidden_colour_shows_white(tmp_path: Path) -> None:
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 2:] = (10, 200, 30)
    Image.fromarray(pixels).save(tmp_path / "x.png", transparency=(0, 0, 0))
    read = read_image(tmp_path / "x.png")
    assert (read[:, :2] == 255).all() and (read[:, 2:] == (10, 200, 30)).all()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_values_of_unknown_range_are_refused(kind: type, tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 1, kind)).save(tmp_path / "x.tiff")
    with pytest.raises(UserError, match="unknown range"):
        read_image(tmp_path / "x.tiff")


def test_other_formats_are_not_opened(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "x.eps")
    (tmp_path / "x.eps").rename(tmp_path / "x.png")
    with pytest.raises(UserError, match="can't be read as an image"):
        read_image(tmp_path / "x.png")


def test_odd_metadata_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import struct

    from PIL import ImageOps

    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")

    def broken(image: object) -> object:
        raise struct.error("unpack requires a buffer of 2 bytes")

    monkeypatch.setattr(ImageOps, "exif_transpose", broken)
    with pytest.raises(UserError, match="can't be read as an image"):
        read_image(tmp_path / "x.png")


def test_a_prompt_may_hold_any_character(tmp_path: Path) -> None:
    rows = [
        {"file": "a.png", "sha256": "", **asdict(Request("s", 0, 0, f"a{c}b", 0, "retain"))}
        for c in "\u2028\u2029\u0085\x0b\u00e9"
    ]
    text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
    (tmp_path / "manifest.jsonl").write_text(text, encoding="utf-8")
    assert read_manifest(tmp_path) == rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("not json", "can't be read at line 1"),
        ([], "line 1: not an object"),
        ({"sha256": None}, "'sha256' is missing"),
        ({"k": "0"}, "'k' is missing or of the wrong type"),
        ({"labels": {"style": 1}}, "a label that is not text"),
        ({"file": "../a.png"}, "a file outside the folder"),
        ({"file": "/a.png"}, "a file outside the folder"),
        ({"file": "../a.png", "seed": None}, "'seed' is missing"),
    ],
)
def test_a_damaged_manifest_is_one_sentence(tmp_path: Path, change: Any, message: str) -> None:
    row = {"file": "a.png", "sha256": "", **asdict(Request("s", 0, 0, "a", 0, "retain"))}
    line = change if isinstance(change, str) else json.dumps(change and row | change)
    (tmp_path / "manifest.jsonl").write_text(line)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path)
