"""Every entry of a folder that nobody here made is used or named with the reason."""

from __future__ import annotations

import io
import json
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from erase.eval.folders.entries import Defect, Oddity, walk
from erase.eval.folders.scan import scan, summary, words
from erase.images.files import read_image
from erase.runtime.files import sha256, write_text
from tests.eval.pictures import chunk, fill, noted, orientation, picture, pixels, png, skipped, used


def plant(folder: Path) -> None:
    """Twelve entries that are no ordinary pictures."""
    data = io.BytesIO()
    picture(2000, 64).save(data, format="PNG")
    (folder / "truncated.png").write_bytes(data.getvalue()[:-300])
    (folder / "zero.png").touch()
    (folder / "text.png").write_text("not found\n")
    picture(2001).convert("CMYK").save(folder / "cmyk.jpg")
    deep = np.full((16, 16), 200 * 257, np.uint16)
    Image.fromarray(deep).save(folder / "deep.png")
    frames = [picture(2002), picture(2003)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    picture(2004).save(folder / "turned.jpg", exif=orientation(6))
    (folder / "huge.png").write_bytes(png(100_000, 100_000, 8, 2, b"\0"))
    (folder / "twin.png").write_bytes((folder / "00000_0.png").read_bytes())
    (folder / "folder.png").mkdir()
    picture(2005).save(folder / "ünïcode 猫.png")
    (folder / "loop.png").symlink_to("loop.png")


def mixed(i: int) -> tuple[Image.Image, str]:
    """A sound picture of one of the usual kinds."""
    kinds = ["RGB png", "L png", "RGBA png", "P png", "RGB jpg", "RGB webp", "RGB bmp", "RGB tif"]
    mode, suffix = kinds[i % len(kinds)].split()
    return picture(i).convert(mode), f"{i // 10:05d}_{i % 10}.{suffix}"


def test_twelve_defects_among_a_thousand_pictures_are_named(tmp_path: Path) -> None:
    for i in range(988):
        image, name = mixed(i)
        image.save(tmp_path / name, compress_level=1)
    plant(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1000
    found = scan(tmp_path)
    assert skipped(found) == {
        "folder.png": Defect.FOLDER,
        "huge.png": Defect.HUGE,
        "loop.png": Defect.LOOP,
        "text.png": Defect.NOT_AN_IMAGE,
        "truncated.png": Defect.BROKEN,
        "zero.png": Defect.EMPTY,
    }
    assert noted(found) == {
        "animated.gif": Oddity.FRAMES,
        "cmyk.jpg": Oddity.CMYK,
        "deep.png": Oddity.DEEP,
        "turned.jpg": Oddity.TURNED,
        "twin.png": Oddity.DUPLICATE,
        "ünïcode 猫.png": Oddity.NAME,
    }
    assert len(found.used) == 988 + 6
    assert used(found, tmp_path)[:2] == ["00000_0.png", "00000_1.png"]
    assert all(p.sha256 == sha256(p.file) for p in found.used)
    facts = json.loads(json.dumps(summary(found)))
    assert (facts["used"], facts["skipped"], facts["noted"]) == (994, 6, 6)
    assert facts["notes"][Oddity.DUPLICATE] == {
        "count": 1,
        "first": [{"name": "twin.png", "detail": "as 00000_0.png"}],
    }
    assert facts["reasons"][Defect.HUGE]["first"][0]["detail"].startswith("Image size")
    assert words(found).startswith("994 pictures are used (noted: several frames")
    assert "6 entries are skipped: " in words(found) and "zero bytes (1)" in words(found)
    # What is used is read as the note says.
    by_name = {p.file.name: read_image(p.file) for p in found.used}
    assert (by_name["deep.png"] == 200).all()
    assert abs(by_name["animated.gif"].astype(int) - pixels(2002)).mean() < 30
    upright = np.rot90(np.asarray(Image.open(tmp_path / "turned.jpg")), -1)
    assert (by_name["turned.jpg"] == upright).all()


def test_what_is_no_file_with_a_picture(tmp_path: Path) -> None:
    folder = fill(tmp_path / "in", "a.png", "sub/b.PNG", "out.png/c.png", ".hidden/d.png", ".e.png")
    fill(tmp_path / "other", "f.png")
    write_text(folder / "notes.txt", "words")
    (folder / "gone.png").symlink_to(tmp_path / "nothing.png")
    (folder / "linked.png").symlink_to(tmp_path / "other" / "f.png")
    (folder / "elsewhere").symlink_to(tmp_path / "other")
    (folder / "sub" / "up").symlink_to("..")
    (folder / "there.png").symlink_to("back.png")
    (folder / "back.png").symlink_to("there.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "manifest.jsonl").symlink_to("nothing")
    found = scan(folder)
    assert used(found, folder) == ["a.png", "linked.png", "out.png/c.png", "sub/b.PNG"]
    assert skipped(found) == {
        ".e.png": Defect.HIDDEN,
        ".hidden": Defect.HIDDEN,
        "back.png": Defect.LOOP,
        "elsewhere": Defect.LINKED_FOLDER,
        "gone.png": Defect.DANGLING,
        "manifest.jsonl": Defect.DANGLING,
        "notes.txt": Defect.OTHER,
        "out.png": Defect.FOLDER,
        "pipe.png": Defect.SPECIAL,
        "sub/up": Defect.LOOP,
        "there.png": Defect.LOOP,
    }


def test_names_that_no_report_can_hold(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b/c.png")
    try:
        (tmp_path / os.fsdecode(b"d\xff.png")).write_bytes((tmp_path / "a.png").read_bytes())
        (tmp_path / "b").rename(tmp_path / os.fsdecode(b"e\xff"))
    except OSError:
        pytest.skip("this file system takes no such names")
    found = scan(tmp_path)
    assert used(found, tmp_path) == ["a.png"]
    first = summary(found)["reasons"][Defect.NOT_UTF8]["first"]
    assert [f["name"] for f in first] == ["d\\udcff.png", "e\\udcff"]
    write_text(tmp_path / "report.json", json.dumps(summary(found), ensure_ascii=False))


def test_an_orientation_behind_the_pixels_and_one_of_a_tiff(tmp_path: Path) -> None:
    exif = orientation(3).tobytes().removeprefix(b"Exif\0\0")
    rows = b"\0\x10\x20\x30" * 2
    (tmp_path / "late.png").write_bytes(png(3, 2, 8, 0, rows, chunk(b"eXIf", exif)))
    picture(1).save(tmp_path / "turned.tif", exif=orientation(8))
    picture(2).save(tmp_path / "upright.jpg", exif=orientation(1))
    assert noted(scan(tmp_path)) == {"late.png": Oddity.TURNED, "turned.tif": Oddity.TURNED}
    assert read_image(tmp_path / "late.png")[0, :, 0].tolist() == [0x30, 0x20, 0x10]


def test_sixteen_bits_of_colour_and_values_of_unknown_range(tmp_path: Path) -> None:
    colour = np.full((2, 3), 200 * 257, ">u2").tobytes()
    (tmp_path / "rgb.png").write_bytes(png(2, 1, 16, 2, b"\0" + colour))
    Image.fromarray(np.full((4, 4), 9, np.uint16)).save(tmp_path / "grey.tif")
    Image.fromarray(np.full((4, 4), 200, np.int32)).save(tmp_path / "whole.tif")
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
    found = scan(tmp_path)
    assert noted(found) == {"rgb.png": Oddity.DEEP, "grey.tif": Oddity.DEEP}
    assert skipped(found) == {"whole.tif": Defect.RANGE, "float.tif": Defect.RANGE}
    assert (read_image(tmp_path / "rgb.png") == 200).all()


def test_the_limit_of_pixels_is_pillows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16 * 16)
    picture(1, 16).save(tmp_path / "at.png")
    picture(2, 17).save(tmp_path / "above.png")
    found = scan(tmp_path)
    assert skipped(found) == {"above.png": Defect.HUGE}
    assert found.skipped[0].detail == "17 × 17 px"


def test_programs_are_not_started_for_other_contents(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    picture().save(tmp_path / "b.png", format="EPS")
    assert skipped(scan(tmp_path)) == {"b.png": Defect.NOT_AN_IMAGE}


def test_a_file_that_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "a.png", "b.png", "shut/c.png")
    opened, listed = Image.open, os.scandir

    def refusing(file: Path, *args: Any, **kwargs: Any) -> Any:
        if file.name == "b.png":
            raise PermissionError(13, "Permission denied", str(file))
        return opened(file, *args, **kwargs)

    def shut(place: str) -> Any:
        if place.endswith("shut"):
            raise PermissionError(13, "Permission denied", place)
        return listed(place)

    monkeypatch.setattr(Image, "open", refusing)
    monkeypatch.setattr(os, "scandir", shut)
    found = scan(tmp_path)
    assert skipped(found) == {"b.png": Defect.UNREADABLE, "shut": Defect.UNREADABLE}
    # Nothing of this machine's paths.
    assert {r.detail for r in found.skipped} == {"Permission denied"}


def test_a_picture_is_opened_once_and_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, *(f"{i}.png" for i in range(20)))
    (tmp_path / "bad.png").write_bytes((tmp_path / "0.png").read_bytes()[:400])
    opened = Image.open
    names: list[str] = []
    images: list[weakref.ref[Image.Image]] = []
    alive: list[int] = []

    def counted(file: Path, *args: Any, **kwargs: Any) -> Any:
        names.append(file.name)
        image = opened(file, *args, **kwargs)
        images.append(weakref.ref(image))
        alive.append(sum(ref() is not None for ref in images))
        return image

    monkeypatch.setattr(Image, "open", counted)
    found = scan(tmp_path)
    assert len(found.used) == 20 and skipped(found) == {"bad.png": Defect.BROKEN}
    # The one that is being opened, and at most the one before.
    assert max(alive) <= 2
    assert sorted(names) == sorted(f.name for f in tmp_path.iterdir())


def samples() -> dict[str, bytes]:
    """One small file of each kind, with metadata that can be damaged too."""
    files = {}
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"):
        data = io.BytesIO()
        picture(5, 8).save(data, format=kind, exif=orientation(6))
        files[kind] = data.getvalue()
    return files


SAMPLES = samples()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(sorted(SAMPLES)),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    end=st.integers(0, 10**6) | st.none(),
)
def test_no_damage_ends_a_scan_and_what_is_used_can_be_read(
    kind: str, changes: list[tuple[int, int]], end: int | None, tmp_path: Path
) -> None:
    data = bytearray(SAMPLES[kind])
    for where, value in changes:
        data[where % len(data)] = value
    fill(tmp_path, "sound.png")
    (tmp_path / "any.png").write_bytes(data if end is None else data[: end % len(data)])
    found = scan(tmp_path)
    assert len(found.used) + len(found.skipped) == 2
    for one in found.used:
        assert read_image(one.file).dtype == np.uint8


def test_metadata_that_only_turning_trips_over(tmp_path: Path) -> None:
    fill(tmp_path, "sound.png")
    exif = orientation(6)
    exif[0x0100] = 16
    picture().save(tmp_path / "odd.jpg", exif=exif)
    data = (tmp_path / "odd.jpg").read_bytes()
    assert data.count(b"\x01\x00\x00\x04") == 1
    # A whole number turned into a fraction, which Pillow can't write back.
    (tmp_path / "odd.jpg").write_bytes(data.replace(b"\x01\x00\x00\x04", b"\x01\x00\x00\x05"))
    found = scan(tmp_path)
    if skipped(found) != {"odd.jpg": Defect.BROKEN}:
        assert all(read_image(p.file).size for p in found.used)


def test_a_plan_beside_a_manifest_is_no_stray_file(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    assert [r.reason for r in walk(tmp_path)[1]] == [Defect.OTHER]
    (tmp_path / "manifest.jsonl").write_text("\n")
    assert walk(tmp_path)[1] == []
