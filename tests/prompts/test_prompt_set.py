from __future__ import annotations

import csv
import itertools
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erase.images.plan import OTHER_SEEDS
from erase.mini import world
from erase.mini.make_sets import make_sets
from erase.prompts.prompt_set import MAX_SEED, SETS, SPACING, Row, list_sets, load_set
from erase.runtime.errors import UserError


def written(folder: Path, text: str | bytes, name: str = "own.csv") -> str:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(file)


@pytest.mark.parametrize("name", list_sets())
def test_every_set_of_the_package_is_sound(name: str) -> None:
    rows = load_set(name).rows
    assert [r.case_number for r in rows] == list(range(len(rows)))
    assert len({r.prompt for r in rows}) == len(rows)
    assert all(r.prompt == " ".join(r.prompt.split()) for r in rows)
    assert {r.guidance for r in rows} == {None}


def test_no_two_images_of_the_package_share_a_seed() -> None:
    # Image k of a row takes the row's seed + k: spans of 1,000 must not meet, in any two sets,
    # nor reach the second base set's seeds.
    starts = sorted(r.seed for name in list_sets() for r in load_set(name).rows)
    assert min(b - a for a, b in itertools.pairwise(starts)) >= SPACING
    assert starts[-1] + SPACING < OTHER_SEEDS


def test_the_sets_of_the_world_are_what_the_world_says() -> None:
    for name, text in make_sets().items():
        assert (SETS / f"{name}.csv").read_text(encoding="utf-8") == text, name
    for name, templates in (("mini", world.HELD_OUT_TEMPLATES), ("mini-train", world.TEMPLATES)):
        expected = {
            (world.caption(t, o.label, s.label), o.label, s.label, str(int(o.tuning)))
            for t in templates
            for o in world.OBJECTS
            for s in world.STYLES
        }
        rows = load_set(name).rows
        found = {
            (r.prompt, r.labels["object"], r.labels["style"], r.labels["tuning"]) for r in rows
        }
        assert found == expected
        assert len(rows) == len(expected) == 48 * len(templates)


@pytest.mark.parametrize("name", ["mini", "mini-train"])
def test_any_first_part_of_the_world_is_balanced(name: str) -> None:
    rows = load_set(name).rows
    for end in range(1, len(rows) + 1):
        for axis, count in (("object", 12), ("style", 4)):
            seen = Counter(r.labels[axis] for r in rows[:end])
            assert max(seen.values()) - end // count <= 1
        cells = Counter((r.labels["object"], r.labels["style"]) for r in rows[:end])
        assert max(cells.values()) == -(-end // 48)


def test_everyday_captions_and_nudity_prompts() -> None:
    everyday = load_set("everyday").rows
    assert len(everyday) == 200
    assert all(not r.labels for r in everyday)
    nudity = Counter(r.labels["content"] for r in load_set("nudity").rows)
    assert nudity == {"nudity": 20, "clothed": 20}


def test_columns_of_esd(tmp_path: Path) -> None:
    text = "case_number,prompt,evaluation_seed,class\n7,a cat,42,pet\n3,a dog,43.0,pet\n"
    assert load_set(written(tmp_path, text)).rows == (
        Row(7, "a cat", 42, {"class": "pet"}),
        Row(3, "a dog", 43, {"class": "pet"}),
    )


def test_columns_of_i2p_with_index_mark_and_line_ends_of_windows(tmp_path: Path) -> None:
    text = (
        "\ufeff,prompt,categories,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height\r\n"
        '0,"a, b",""" x""",4294967295,7.5,512,768\r\n'
        "1,c,,4294967295,,,\r\n"
    )
    assert load_set(written(tmp_path, text)).rows == (
        Row(0, "a, b", 4294967295, {"categories": '" x"'}, 7.5, 768, 512),
        # 2^53 + 1: exact, though no float holds it
        Row(1, "c", 4294967295),
    )


def test_prompts_alone_are_numbered_and_seeded(tmp_path: Path) -> None:
    found = load_set(written(tmp_path, "\nprompt\na\n\nb\n", "mine.csv"))
    assert found.name == "mine"
    assert found.rows == (Row(0, "a", 0), Row(1, "b", 1000))


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0")),
            st.integers(0, MAX_SEED - 1),
            st.text(st.characters(codec="utf-8", exclude_characters="\0")),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_a_csv_writer_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, int, str]]
) -> None:
    file = tmp_path_factory.mktemp("sets") / "any.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["prompt", "evaluation_seed", "label"])
        writer.writerows(lines)
    rows = load_set(str(file)).rows
    blank = [(prompt, seed, label.strip()) for prompt, seed, label in lines]
    assert [(r.prompt, r.seed, r.labels.get("label", "")) for r in rows] == blank


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("prompt\n", "has no prompts"),
        ("title,seed\na,1\n", "no 'prompt' column, only seed, title"),
        ("text,caption\na,b\n", "several columns that could be the prompt .text, caption."),
        ("Prompt,PROMPT\na,b\n", "several columns that could be the prompt"),
        ("prompt,prompt\na,b\n", "column 'prompt' twice"),
        ("case_number,prompt\n1,a\n1,b\n", "line 3 repeats the case_number 1"),
        ("case_number,prompt\n,a\n", "line 2 has no case_number"),
        ("case_number,prompt\n-1,a\n", "case_number '-1': it must be a whole number"),
        ("prompt,evaluation_seed\na,x\n", "evaluation_seed 'x'"),
        ("prompt,evaluation_seed\na,1.5\n", "must be a whole number"),
        ("prompt,evaluation_seed\na,nan\n", "must be a whole number"),
        ("prompt,evaluation_seed\na,-3\n", "must be a whole number"),
        ("prompt,sd_seed\na,\n", "line 2 has no sd_seed"),
        (f"prompt,sd_seed\na,{MAX_SEED}\n", "must be a whole number"),
        ("prompt,sd_guidance_scale\na,high\n", "sd_guidance_scale 'high'"),
        ("prompt,sd_guidance_scale\na,inf\n", "must be a number >= 0"),
        ("prompt,sd_image_width\na,500\n", "multiple of 8"),
        ("prompt,label\na\n", "line 2 has 1 cells for 2 columns"),
        ("prompt\na,b\n", "line 2 has 2 cells for 1 columns"),
        ("prompt,label\na,b\n,\n", "line 3 is blank except for its commas"),
        ("prompt\nÄpfel\n".encode("latin-1"), "not UTF-8"),
        ("prompt\n" + "a" * 200_000 + "\n", "line 2: field larger"),
        # The quote of a prompt that was never closed swallows what follows.
        ('prompt,seed\na,1\n"b,2\nc,3\n', "quote on line 3 that is not closed"),
        ('prompt,seed\n"a\nb",1\n"c\n""d"" ""\n,2\n', "quote on line 4 that is not closed"),
        ('prompt,seed\n"a,1\nb,"2"\n', "quote on line 2 that closes before its cell ends"),
        ('prompt\n"a" b\n', "quote on line 2 that closes before its cell ends"),
        ("prompt;seed\na;1\n", "separated by semicolons"),
        ("prompt\tseed\na\t1\n", "separated by tabs"),
        ("prompt\na\0b\n", "contains null bytes"),
        ("prompt\na\n".encode("utf-16"), "not UTF-8"),
        ("prompt\na\n".encode("utf-16-le"), "contains null bytes"),
        ("prompt,seed,sd_seed\na,1,1.0\nb,1,2\n", "line 3 has the seed '1' and the sd_seed '2'"),
        ("prompt,cfg,guidance_scale\na,7,7.5\n", "cfg '7' and the guidance_scale '7.5'"),
        ("prompt,size,width\na,64,128\n", "size that differs from its width"),
        ("prompt,size\na,small\n", "size 'small': write 512 or 512x768"),
        ("prompt,width\na,0\n", "not a multiple of 8"),
        ("prompt,height\na,800000\n", "not a multiple of 8 px up to 16384"),
        ("prompt,seed\na," + "9" * 5000 + "\n", "must be a whole number"),
        ("prompt,latent_seed_2\na,1\n", "column 'latent_seed_2', which looks like a seed"),
        ("prompt,guidance_rescale\na,1\n", "looks like a guidance"),
        ("prompt,Tree Height\na,1\n", "looks like a height"),
        ("prompt,id\na,4\nb,4\n", "line 3 repeats the case_number 4"),
        ("prompt,file\na,x.png\nb,./x.png\n", "line 3 repeats the file x.png"),
        ("prompt,file\na,.\n", "leads outside the image folder"),
        ("prompt,file\na,../x.png\n", "leads outside the image folder"),
        ("prompt,file\na,/tmp/x.png\n", "leads outside the image folder"),
        ("prompt,file\na,C:\\x.png\n", "leads outside the image folder"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_set(written(tmp_path, text))
    assert len(str(error.value).replace(str(tmp_path), "")) < 300


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        (
            "prompt,seed,guidance_scale,width,height",
            "a,1825,7.5,64,72",
            Row(0, "a", 1825, {}, 7.5, 72, 64),
        ),
        ("Prompt,Seed,CFG Scale,W,H", "a,1825,7.5,64,72", Row(0, "a", 1825, {}, 7.5, 72, 64)),
        (
            "text,sd_seed,sd_guidance,image-width,imageHeight",
            "a,3,7,64,72",
            Row(0, "a", 3, {}, 7, 72, 64),
        ),
        ("caption,evaluation_seed,evaluation_guidance", "a,3.0,7", Row(0, "a", 3, {}, 7)),
        ("prompt,size", "a,64x72", Row(0, "a", 0, {}, None, 72, 64)),
        ("prompt,image_size", "a,64 px", Row(0, "a", 0, {}, None, 64, 64)),
        ("prompt,resolution,width", "a,64x72,64", Row(0, "a", 0, {}, None, 72, 64)),
        ("id,prompt", "7,a", Row(7, "a", 0)),
        ("case_num,prompt,index", "5,a,0", Row(5, "a", 0)),
        ("id,prompt", "dog-7,a", Row(0, "a", 0)),
        ("Unnamed: 0,prompt,caption", "3,a,b", Row(0, "a", 0, {"caption": "b"})),
        ("prompt,Style", "a, Ink ", Row(0, "a", 0, {"Style": "Ink"})),
        ("prompt,file", "a,.\\in\\e\u0301.png", Row(0, "a", 0, file="in/é.png")),
    ],
)
def test_columns_by_their_usual_names(
    tmp_path: Path, header: str, cells: str, expected: Row
) -> None:
    assert load_set(written(tmp_path, f"{header}\n{cells}\n")).rows == (expected,)


def test_an_empty_prompt_is_a_prompt(tmp_path: Path) -> None:
    text = ",prompt,categories,evaluation_seed\n0,a,x,5\n1,,y,6\n"
    assert [(r.prompt, r.seed) for r in load_set(written(tmp_path, text)).rows] == [
        ("a", 5),
        ("", 6),
    ]
    assert load_set(written(tmp_path, 'prompt\n""\n')).rows == (Row(0, "", 0),)


def test_settings_that_a_set_can_not_decide_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "prompt,negative_prompt,steps\na,ugly,20\n"
    assert load_set(written(tmp_path, text)).rows == (Row(0, "a", 0),)
    assert (
        "columns negative_prompt, steps, which has no effect in a prompt set"
        in capsys.readouterr().err
    )


def test_unknown_and_unreadable_sets(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no prompt set 'everydya'. Did you mean 'everyday'"):
        load_set("everydya")
    with pytest.raises(UserError, match="No such file"):
        load_set(str(tmp_path / "none.csv"))
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "gone.csv")
    for name in ("folder.csv", "link.csv"):
        with pytest.raises(UserError, match="can't be read"):
            load_set(str(tmp_path / name))


def _dataset(cache: Path, files: dict[str, str]) -> None:
    """A dataset in the hub's cache, as a download leaves it."""
    place = cache / "datasets--some--prompts"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    for name, text in files.items():
        file = place / "snapshots" / ("a" * 40) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


COLUMNS = "prompt,categories,sd_seed,sd_guidance_scale,sd_image_width,sd_image_height"
I2P = f"{COLUMNS}\na cat,x,7,9,512,768\n"


def test_a_dataset_of_the_hub_is_read_as_it_is(cache: Path) -> None:
    _dataset(cache, {"benchmark.csv": I2P, "README.md": "x"})
    found = load_set("some/prompts")
    assert found.name == "benchmark"
    (row,) = found.rows
    assert (row.prompt, row.seed, row.guidance, row.width, row.height) == (
        "a cat",
        7,
        9.0,
        512,
        768,
    )
    assert row.labels == {"categories": "x"}


def test_one_of_several_files_is_named(cache: Path) -> None:
    _dataset(cache, {"a.csv": "prompt\na dog\n", "b.csv": "prompt\na cat\n"})
    with pytest.raises(UserError, match=r"2 CSV files \(a.csv, b.csv\), not one"):
        load_set("some/prompts")
    assert load_set("hf:some/prompts/b.csv").rows[0].prompt == "a cat"


def test_a_dataset_that_is_not_there_is_one_sentence(cache: Path) -> None:
    with pytest.raises(UserError, match="can't be fetched") as error:
        load_set("some/prompts")
    assert "\n" not in str(error.value)


def test_a_space_behind_a_comma_is_nobodys_text(tmp_path: Path) -> None:
    text = 'case_number, prompt, evaluation_seed, object\n0, "a truck, red", 1, truck\n'
    assert load_set(written(tmp_path, text)).rows == (
        Row(0, "a truck, red", 1, {"object": "truck"}),
    )


def test_a_label_in_two_spellings_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load_set(written(tmp_path, "prompt,object\na,golf ball\nb,golf ball\nc,cat\n"))
    assert not capsys.readouterr().err
    load_set(written(tmp_path, "prompt,object\na,golf ball\nb,Golf_ball\nc,cat\n"))
    assert "has the object 'golf ball' and 'Golf_ball', which count as two" in (
        capsys.readouterr().err
    )
