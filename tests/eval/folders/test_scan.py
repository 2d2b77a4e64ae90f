"""What a picture should show is read from a manifest, or from its name and a set."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from erase.eval.folders.entries import SUFFIXES, Defect
from erase.eval.folders.scan import case_and_k, scan, summary, words
from erase.eval.pictures import UNKNOWN_SEED, is_unknown, read_pictures
from erase.prompts.groups import GROUPS
from erase.prompts.prompt_set import PromptSet, Row
from erase.runtime.errors import UserError
from erase.runtime.files import write_text
from tests.eval.pictures import fill, skipped, used
from tests.eval.synthetic import asked, right, write_side

PROMPTS = PromptSet("pets", (Row(7, "a cat", 70, {"pet": "cat"}), Row(12, "a dog", 5)))


@given(
    case=st.integers(0, 10**12),
    k=st.integers(0, 10**6),
    zeros=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    suffix=st.sampled_from(sorted(SUFFIXES | {".PNG"})),
)
def test_every_spelling_of_case_and_k_is_read(
    case: int, k: int, zeros: tuple[int, int], suffix: str
) -> None:
    name = f"{'0' * zeros[0]}{case}_{'0' * zeros[1]}{k}{suffix}"
    assert case_and_k(name) == (case, k)


@example("_0")
@example("0_")
@example("1_2_3")
@example("-1_0")
@example("²_1")
@example("1_0\n")
@example("9" * 19 + "_0")
@given(st.text(st.sampled_from("019_-+ .²٣a("), max_size=8) | st.text(max_size=8))
def test_nothing_else_is_taken_for_case_and_k(stem: str) -> None:
    case, _, k = stem.partition("_")
    numbers = [n for n in (case, k) if n.isascii() and n.isdigit() and len(n) <= 18]
    expected = (int(case), int(k)) if len(numbers) == 2 else None
    assert case_and_k(f"{stem}.png".replace("/", "-")) == expected


def test_names_are_joined_to_the_set(tmp_path: Path) -> None:
    fill(tmp_path, "7_0.png", "00007_1.png", "12_0.png", "13_0.png", "cat.png", "7_0 (1).png")
    found = scan(tmp_path, PROMPTS)
    assert used(found, tmp_path) == ["7_0.png", "00007_1.png", "12_0.png"]
    first = found.used[0]
    assert first.key == ("pets", 7, 0)
    assert (first.prompt, first.labels, first.role) == ("a cat", {"pet": "cat"}, "retain")
    # The set's seed says what was asked for.
    assert {p.seed for p in found.used} == {UNKNOWN_SEED}
    assert [p.key for p in found.used[1:]] == [("pets", 7, 1), ("pets", 12, 0)]
    assert skipped(found) == {
        "13_0.png": Defect.CASE,
        "cat.png": Defect.NAME,
        "7_0 (1).png": Defect.NAME,
    }
    assert found.missing == ()


def test_a_set_says_which_file_is_which(tmp_path: Path) -> None:
    names = ["Van_Gogh_Dogs_seed188.png", "a-photo-of-a-dog_0.png", "a-photo-of-a-dog_1.png"]
    fill(tmp_path, *names, "e\u0301.png", "sub/same.png", "other/same.png", "7_0.png", "8_0.png")
    files = [*names[:2], "sub/same.png", "elsewhere/same.png", "theirs/é.png", "gone.png"]
    rows = [Row(i, f"prompt {i}", i, file=file) for i, file in enumerate(files)]
    found = scan(
        tmp_path, PromptSet("own", (*rows, Row(7, "by number", 7), Row(8, "", 8, file="x.png")))
    )
    said = {name: p.prompt for name, p in zip(used(found, tmp_path), found.used, strict=True)}
    assert said == {
        names[0]: "prompt 0",
        names[1]: "prompt 1",
        "sub/same.png": "prompt 2",
        # By name alone, in whatever form a disk keeps its accent.
        "e\u0301.png": "prompt 4",
        # A row without a file is still found by its number.
        "7_0.png": "by number",
    }
    assert skipped(found) == {
        names[2]: Defect.FILE,
        # Two files have the name, so that the name alone does not tell.
        "other/same.png": Defect.FILE,
        # The row says that its picture is another one.
        "8_0.png": Defect.FILE,
    }
    assert found.missing == (3, 5, 8)


def test_an_empty_prompt_is_known_and_no_prompt_is_not(tmp_path: Path) -> None:
    fill(tmp_path, "0_0.png")
    (known,) = scan(tmp_path, PromptSet("own", (Row(0, "", 5),))).used
    (unknown,) = scan(tmp_path).used
    assert (known.prompt, unknown.prompt) == ("", "")
    assert is_unknown(unknown) and not is_unknown(known)


def test_a_manifest_as_windows_saves_it(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png")
    lines = [json.dumps({"file": name, "prompt": ""}) for name in ("a.png", "b.png")]
    (tmp_path / "manifest.jsonl").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert used(scan(tmp_path), tmp_path) == ["a.png", "b.png"]


def test_one_case_and_k_is_one_picture(tmp_path: Path) -> None:
    fill(tmp_path, "7_0.png", "a/7_0.png", "7_1.png", "0007_1.png")
    # The first of a pair is damaged: the second one stands in.
    (tmp_path / "0007_1.png").write_bytes(b"nothing")
    found = scan(tmp_path, PROMPTS)
    assert used(found, tmp_path) == ["7_0.png", "7_1.png"]
    assert skipped(found) == {"0007_1.png": Defect.NOT_AN_IMAGE, "a/7_0.png": Defect.SECOND}
    assert found.skipped[1].detail == "the first is 7_0.png"
    assert found.missing == (12,)
    assert words(found).endswith("1 prompt of the set has no picture.")
    assert summary(found)["missing_first"] == [12]


def test_without_a_set_two_folders_are_paired_by_name(tmp_path: Path) -> None:
    one = scan(fill(tmp_path / "one", "a/x.png", "a/y.png", "b/x.png", "1_0.png"))
    two = scan(fill(tmp_path / "two", "b/x.png", "a/x.png"))
    assert len({p.key for p in one.used}) == 4
    common = {p.key for p in one.used} & {p.key for p in two.used}
    assert {key[0] for key in common} == {"a/x.png", "b/x.png"}
    assert {(p.prompt, p.seed, p.role) for p in one.used} == {("", UNKNOWN_SEED, "retain")}
    assert not any(p.labels for p in one.used)


def test_a_folder_of_ours_is_read_as_read_pictures_reads_it(tmp_path: Path) -> None:
    write_side(tmp_path / "side", asked("forget", right("radio", 7), 0))
    found = scan(tmp_path / "side")
    assert found.used == tuple(read_pictures(tmp_path / "side"))
    assert {p.role for p in found.used} == {"forget"}
    assert not found.skipped


def listing(folder: Path, *rows: dict[str, Any] | str) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    write_text(folder / "manifest.jsonl", "\n".join(lines) + "\n")


def test_a_manifest_decides_over_its_folder(tmp_path: Path) -> None:
    fill(tmp_path, "deep/a.png", "deep/b.png", "deep/c.png", "deep/er/d.png", "deep/e.png", "f.png")
    (tmp_path / "deep/e.png").write_bytes(b"")
    listing(
        tmp_path / "deep",
        {"file": "er/d.png", "prompt": "a\u2028b", "labels": {"x": "y"}},
        {"file": "a.png", "prompt": "", "k": 3, "role": "forget"},
        {"file": "b.png", "prompt": "", "sha256": "0" * 64},
        {"file": "e.png", "prompt": ""},
        {"file": "gone.png", "prompt": ""},
        {"file": "../f.png", "prompt": "a", "set": "s", "seed": 4},
    )
    found = scan(tmp_path)
    assert used(found, tmp_path) == ["deep/er/d.png", "deep/a.png", "f.png"]
    assert found.used[0].prompt == "a\u2028b" and found.used[0].labels == {"x": "y"}
    assert [p.key for p in found.used] == [("deep", 0, 0), ("deep", 1, 3), ("s", 5, 0)]
    assert [p.role for p in found.used] == ["retain", "forget", "retain"]
    assert [p.seed for p in found.used] == [UNKNOWN_SEED, UNKNOWN_SEED, 4]
    assert skipped(found) == {
        "deep/b.png": Defect.ALTERED,
        "deep/c.png": Defect.UNLISTED,
        "deep/e.png": Defect.EMPTY,
        "deep/gone.png": Defect.MISSING,
    }
    assert len(found.skipped) == 4


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("{", "Expecting"),
        ("[" * 100_000, "recursion"),
        ("[]", "not an object"),
        ('{"file": "x.png"}', "no prompt"),
        ('{"prompt": "x"}', "no file"),
        ('{"file": "x.png", "prompt": null}', "prompt is of the wrong type"),
        ('{"file": "x.png", "prompt": "", "k": true}', "k is of the wrong type"),
        ('{"file": "x.png", "prompt": "", "labels": {"a": 1}}', "labels must be text"),
        (
            '{"file": "x.png", "prompt": "", "role": "keep"}',
            "role must be one of forget, retain, neighbour",
        ),
        ('{"file": "./a.png", "prompt": ""}', "a.png is listed before"),
    ],
)
def test_a_bad_line_costs_no_other(tmp_path: Path, line: str, detail: str) -> None:
    fill(tmp_path, "a.png", "b.png")
    listing(
        tmp_path, {"file": "a.png", "prompt": "one"}, line, " ", {"file": "b.png", "prompt": "four"}
    )
    found = scan(tmp_path)
    assert [(p.prompt, p.case_number) for p in found.used] == [("one", 0), ("four", 3)]
    [remark] = found.skipped
    assert (remark.path, remark.reason) == (Path("manifest.jsonl"), Defect.LINE)
    assert remark.detail.startswith("line 2: ") and detail in remark.detail


def test_a_set_relabels_what_a_manifest_lists(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{i}.png" for i in range(3)))
    listing(
        tmp_path,
        {"file": "0.png", "prompt": "a cat", "case_number": 7, "labels": {"a": "b", "pet": "?"}},
        {"file": "1.png", "prompt": "a bird", "case_number": 12},
        {"file": "2.png", "prompt": "a cat", "case_number": 8},
    )
    found = scan(tmp_path, PROMPTS)
    [only] = found.used
    assert only.key == ("pets", 7, 0)
    assert only.labels == {"a": "b", "pet": "cat"}
    assert skipped(found) == {"1.png": Defect.PROMPT, "2.png": Defect.CASE}
    assert found.missing == (12,)


def test_the_order_is_not_the_file_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "2_0.png", "10_0.png", "b/1_0.png", "a/1_0.png", "a10/x.png", "a9/x.png")
    twins = ("a/twin.png", "b/twin.png")
    for name in twins:
        (tmp_path / name).write_bytes((tmp_path / "2_0.png").read_bytes())
    (tmp_path / "b/z.txt").touch()
    (tmp_path / "a/z.txt").touch()
    walk = os.walk

    def backwards(*args: Any, **kwargs: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, folders, names in walk(*args, **kwargs):
            folders.sort(reverse=True)
            names.sort(reverse=True)
            yield place, folders, names

    def forwards(*args: Any, **kwargs: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for place, folders, names in walk(*args, **kwargs):
            folders.sort()
            names.sort()
            yield place, folders, names

    monkeypatch.setattr(os, "walk", forwards)
    found = scan(tmp_path)
    monkeypatch.setattr(os, "walk", backwards)
    assert scan(tmp_path) == found
    assert [(r.path.as_posix(), r.detail) for r in found.notes] == [
        (t, "as 2_0.png") for t in twins
    ]
    assert used(found, tmp_path)[:3] == ["2_0.png", "10_0.png", "a/1_0.png"]
    assert used(found, tmp_path)[-4:] == ["a9/x.png", "a10/x.png", "b/1_0.png", "b/twin.png"]


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no image folder"):
        scan(tmp_path / "none")
    (tmp_path / "file.png").touch()
    with pytest.raises(UserError, match="is not a folder"):
        scan(tmp_path / "file.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="is empty"):
        scan(tmp_path / "empty")
    with pytest.raises(UserError, match=r"1 entry was skipped, .* zero bytes \(1\)\."):
        scan(tmp_path)
    fill(tmp_path, "a.png", "b.png")
    with pytest.raises(UserError, match=r"3 entries were skipped, .* name is not CASE_K.* \(2\)\."):
        scan(tmp_path, PROMPTS)


def test_a_manifest_that_can_not_be_read_is_the_reason(tmp_path: Path) -> None:
    fill(tmp_path, "a.png", "b.png")
    listing(tmp_path, {"image": "a.png", "caption": "x"})
    with pytest.raises(UserError, match=r"line of manifest\.jsonl .*line 1: no file.*'prompt'"):
        scan(tmp_path)


def test_notes_are_by_name_where_the_manifest_is_not(tmp_path: Path) -> None:
    fill(tmp_path, "ä2.png", "ä10.png")
    listing(tmp_path, *({"file": f"ä{i}.png", "prompt": ""} for i in (10, 2)))
    found = scan(tmp_path)
    assert used(found, tmp_path) == ["ä10.png", "ä2.png"]
    assert [r.path.name for r in found.notes] == ["ä2.png", "ä10.png"]


def test_a_summary_names_the_first_of_many(tmp_path: Path) -> None:
    fill(tmp_path, "a.png")
    for i in range(30):
        (tmp_path / f"{i}.txt").touch()
    (tmp_path / "0.png").touch()
    found = scan(tmp_path)
    facts = summary(found, names=2)
    assert list(facts["reasons"].items()) == [
        (
            Defect.OTHER,
            {
                "count": 30,
                "first": [{"name": "0.txt", "detail": ""}, {"name": "1.txt", "detail": ""}],
            },
        ),
        (Defect.EMPTY, {"count": 1, "first": [{"name": "0.png", "detail": ""}]}),
    ]
    assert words(found) == (
        "1 picture is used. 31 entries are skipped: "
        "not a picture by its suffix (30), zero bytes (1)."
    )


def test_every_role_of_a_run_is_read(tmp_path: Path) -> None:
    rows = []
    for number, role in enumerate(("forget", "retain", *GROUPS)):
        fill(tmp_path, f"{number}_0.png")
        row = {"file": f"{number}_0.png", "prompt": "", "case_number": number, "role": role}
        rows.append(json.dumps(row) + "\n")
    (tmp_path / "manifest.jsonl").write_text("".join(rows))
    found = scan(tmp_path)
    assert [p.role for p in found.used] == ["forget", "retain", *GROUPS]
    assert not found.skipped
