"""``compare.html``: what it says, that it stands alone, and that pictures share prompt and seed."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from erase.eval.comparison.compare import compare
from erase.eval.comparison.lead import lead
from erase.eval.comparison.page import grids, heat_maps, mixed, render, shown_paths
from erase.eval.pages.phrases import listed, missing
from erase.eval.stats.intervals import share
from tests.eval.comparison.test_compare import cell
from tests.eval.report.test_page import Reader
from tests.eval.synthetic import write_run

COMMAND = "erase compare --recipes 'salun,esd <x>'"


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    cells = [cell("salun", f"mini/{c}", 0, ua, 0.9) for c, ua in (("x", 1.0), ("y", 0.8))]
    cells += [cell("esd <x>", f"mini/{c}", 0, ua, 0.5) for c, ua in (("x", 0.5), ("y", 0.4))]
    return compare(cells, ["salun", "esd <x>"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str, int], Path]:
    place = tmp_path_factory.mktemp("cells")
    return {
        (name, "mini/x", 0): write_run(place / str(i))
        for i, name in enumerate(("salun", "esd <x>"))
    }


def test_the_page_stands_alone_and_says_what_was_found(
    result: dict[str, Any], runs: dict[tuple[str, str, int], Path]
) -> None:
    page = Reader(render(result, runs, COMMAND))
    assert "script" not in page.tags
    for tag, attribute, value in page.attributes:
        if attribute in ("src", "href", "xlink:href"):
            assert value.startswith(("data:", "#")), (tag, value[:60])
    for text in ("2 recipes on one base", "base model", "90.0", "50.0", COMMAND, "0.001"):
        assert text in page.text, text
    assert "60 forget, 100 retained" in page.text


def test_the_lead_claims_no_more_than_the_intervals(result: dict[str, Any]) -> None:
    (only,) = lead(result)
    # Harmonic means of (1, .9, 1) and (.8, .9, 1): 0.9643 and 0.8926.
    assert only.startswith("2 concepts are too few to rank salun and esd <x>")
    assert "salun 92.8" in only and "highest" not in only
    many = [cell("a", f"{i}", 0, 1.0) for i in range(8)]
    worse = compare([*many, *(cell("b", f"{i}", 0, 0.5 + i / 50) for i in range(8))], ["a", "b"])
    assert lead(worse)[0].startswith("a has the highest harmonic mean")
    assert lead(worse)[0].endswith("told from all others.")
    assert lead(worse)[1].endswith("the interval excludes 0.")
    mixed = [cell("b", f"{i}", 0, 1.0 if i % 2 else 0.9) for i in range(8)]
    level = [cell("a", f"{i}", 0, 0.95) for i in range(8)]
    said = lead(compare([*level, *mixed], ["a", "b"]))
    assert said[0].endswith("b is not distinguishable from a.") or said[0].endswith(
        "a is not distinguishable from b."
    )
    assert said[1].endswith("not distinguishable from 0.")


def test_a_difference_that_is_the_same_everywhere_is_the_clearest() -> None:
    cells = [cell("a", f"{i}", 0, 1.0) for i in range(8)]
    cells += [cell("none", f"{i}", 0, 0.0) for i in range(8)]
    said = lead(compare(cells, ["a", "none"]))
    assert said[0].endswith("told from all others.")
    assert said[1].endswith("+100.0 points (no spread), the interval excludes 0.")
    same = [cell("b", f"{i}", 0, 1.0) for i in range(8)]
    level = lead(compare([*cells[:8], *same], ["a", "b"]))
    assert level[-1].endswith("not distinguishable from 0.")


def test_a_best_that_shares_its_place_is_held_against_the_others_too() -> None:
    # Harmonic means with IRA and CRA of 1: 0.9643 of 0.9, 1 of 1, 0.9286 of 0.8125.
    values = {"a": [0.9, 0.9], "b": [1.0, 0.8125], "c": [0.88, 0.87]}
    cells = [cell(n, f"{i}", 0, own[i % 2]) for n, own in values.items() for i in range(8)]
    said = lead(compare(cells, ["a", "b", "c"]))[0]
    # a lies above c wherever it was measured, b only on average.
    assert said.startswith("a and b share the highest harmonic mean")
    assert said.endswith("c is not distinguishable from all of these.")
    # Cells that another recipe lacks are as little part of this as of the ranking.
    lacking = [cell("c", f"{i}", 0, 0.5) for i in range(8, 16)]
    more = [cell("b", f"{i}", 0, 1.0) for i in range(8, 16)]
    again = lead(compare([*cells, *more, *lacking], ["a", "b", "c"]))[0]
    assert again.endswith("c is not distinguishable from all of these.")


def test_none_of_the_images_against_all_is_told_apart_on_two_concepts() -> None:
    """Wilson intervals of 0 and of 60 in 60 images do not overlap; those of 60 and 59 do."""
    cells = []
    for name, right in (("uce", (60, 60)), ("esd", (0, 0)), ("ga", (59, 59))):
        for concept, k in zip("xy", right, strict=True):
            one = cell(name, concept, 0, k / 60)
            one["summary"]["erased"]["ua"] = asdict(share(k, 60))
            cells.append(one)
    first, *others = lead(compare(cells, ["uce", "esd", "ga"]))
    assert first.startswith("uce against esd: UA higher, 100\u00a0% against 0\u00a0%;")
    assert first.endswith("do not overlap on any of the 2 concepts.")
    assert len(others) == 1 and "too few to rank uce and esd and ga" not in others[0]
    assert others[0].startswith("2 concepts are too few to rank uce, esd and ga")
    # On one of the concepts alone it is not.
    cells[2]["summary"]["erased"]["ua"] = asdict(share(60, 60))
    assert not any("overlap" in text for text in lead(compare(cells, ["uce", "esd", "ga"])))


def test_many_recipes_are_told_in_a_sentence() -> None:
    values = {"a": 0.9, "b": 0.5, "c": 0.4, "d": 0.9, "e": 1.0, "f": 0.3}
    cells = [cell(n, f"{i}", 0, ua - i / 100) for n, ua in values.items() for i in range(6)]
    _, text = lead(compare(cells, list(values)))
    assert text.endswith("a is above b, c and f; a is below e; a is not distinguishable from d.")


def test_heading_and_tab_say_the_same_and_paths_of_the_machine_stay_out(
    result: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    typed = f"erase compare --out {tmp_path}/runs/x --include a={tmp_path.parent}/models/a"
    assert shown_paths(typed) == "erase compare --out runs/x --include a=~/models/a"
    assert shown_paths("erase compare --out /srv/x/y --a '/srv/b c/d'").endswith(
        "--out y --a 'b c/d'"
    )
    html = render(result, {}, typed)
    assert str(tmp_path.parent) not in html
    assert re.search(r"<title>(.*)</title>", html)[1] == re.search(r"<h1>(.*)</h1>", html)[1]  # type: ignore[index]


def test_a_difference_that_is_told_is_better_or_worse_by_its_figure() -> None:
    """a has the higher UA, which is better, and the higher FID, which is worse."""
    cells = [cell("a", f"{i}", 0, 0.9 - i / 100, fid=2.0 + i / 100) for i in range(6)]
    cells += [cell("b", f"{i}", 0, 0.5, fid=1.0) for i in range(6)]
    html = render(compare(cells, ["a", "b"]), {}, COMMAND)
    assert re.search(r'class="better">\+37\.5<', html) and re.search(
        r'class="worse">\+1\.02<', html
    )


def test_a_difference_that_prints_as_nought_has_no_sign() -> None:
    cells = [cell("a", f"{i}", 0, 0.5, 0.9999, fid=0.4) for i in range(6)]
    cells += [cell("b", f"{i}", 0, 0.75, 1.0, fid=0.5) for i in range(6)]
    page = Reader(render(compare(cells, ["a", "b"]), {}, COMMAND)).text
    table = page[page.index("against") :]
    assert "−25.0" in table and "−0.10" in table
    assert not re.search(r"[−+]0\.0+\b", table)


def test_recipes_that_print_the_same_share_the_first_place() -> None:
    values = {"a": 0.98, "b": 1.0, "c": 1.0}
    cells = [cell(name, f"{i}", 0, ua) for name, ua in values.items() for i in range(8)]
    first = lead(compare(cells, list(values)))[0]
    assert first.startswith("b and c share the highest harmonic mean")
    assert listed(["a"]) == "a" and listed(["a", "b", "c"]) == "a, b and c"


def test_many_missing_cells_are_counted() -> None:
    titles = [f"{name}, mini/{i}, seed 0" for name in ("a", "b") for i in range(5)]
    assert missing(titles[:2]) == "Missing: a, mini/0, seed 0; a, mini/1, seed 0."
    assert missing(titles[:8]) == "8 cells are missing: 5 of a, 3 of b."


def test_a_recipe_is_not_spared_the_hard_concepts() -> None:
    cells = [cell("a", c, 0, ua) for c, ua in (("x", 1.0), ("y", 0.2))]
    cells += [cell("b", "x", 0, 0.9)]  # failed on y
    found = compare(cells, ["a", "b"], ["b, y, seed 0"])
    assert lead(found)[0].startswith("1 concept is too few") and "the 1 cell that" in lead(found)[0]
    assert "b, y, seed 0" in Reader(render(found, {}, COMMAND)).text


def test_recipes_without_a_common_cell_are_not_ranked() -> None:
    cells = [cell("a", "x", 0, 1.0), cell("b", "y", 0, 0.9)]
    assert lead(compare(cells, ["a", "b"])) == [
        "No concept was measured for all recipes, so none of them is called the best."
    ]
    # Those that have common cells are still told apart.
    cells = [cell(n, f"{i}", 0, ua) for n, ua in (("a", 1.0), ("b", 0.5)) for i in range(6)]
    told = lead(compare([*cells, cell("c", "y", 0, 1.0)], ["a", "b", "c"]))
    assert told[0].startswith("No concept") and told[-1].startswith("a against b: +")
    unmeasured = cell("a", "x", 0, 1.0, 1.0, None)
    unmeasured["summary"]["erased"] |= {"ua": None, "ira": None}
    assert "have no judge" in lead(compare([unmeasured], ["a"]))[0]


def test_the_page_says_where_cells_were_not_made_alike() -> None:
    cells = [cell("a", "x", 0, 1.0), {**cell("b", "x", 0, 0.9), "device": "cuda:0"}]
    cells[1]["versions"] = {"torch": "3"}
    titles = ["b, x, seed 0"]
    text = Reader(render(compare(cells, ["a", "b"], others=titles), {}, COMMAND)).text
    assert "different machines or settings (cpu, cuda:0)" in text and "torch 2 or 3" in text
    assert "Other commands made 1 of b in the same folder." in text
    alike = [{**c, "device": "cpu", "threads": n} for c, n in zip(cells, (1, 1), strict=True)]
    text = Reader(render(compare(alike, ["a", "b"]), {}, COMMAND)).text
    assert "different machines" not in text and "Other commands" not in text
    assert "(1 and 2 threads)" in mixed(
        [{**alike[0], "threads": 2}, alike[1], cells[0] | {"device": "cpu"}]
    )


def test_heat_maps_average_seeds_and_leave_gaps() -> None:
    cells = [cell("a", "mini/x", 0, 1.0), cell("a", "mini/x", 1, 0.5), cell("b", "mini/y", 0, 0.2)]
    maps = {m["title"]: m for m in heat_maps(compare(cells, ["a", "b"]))}
    assert maps["UA"]["concepts"] == ["x", "y"]
    assert maps["UA"]["rows"] == [("a", [0.75, None]), ("b", [None, 0.2])]


def test_every_row_of_a_grid_has_the_same_prompts_and_seeds(
    result: dict[str, Any], runs: dict[tuple[str, str, int], Path]
) -> None:
    (grid,) = grids(result, runs)
    assert [name for name, _ in grid.rows] == ["base model", "salun", "esd <x>"]
    titles = [[s.title for s in shots if s] for _, shots in grid.rows]
    assert titles[0] == titles[1] == titles[2] and len(titles[0]) == 8
    assert grid.forget == 4 and not grid.veiled
    # The erased pictures are not the base's.
    assert [s and s.uri for s in grid.rows[0][1]] != [s and s.uri for s in grid.rows[1][1]]


def test_a_picture_that_is_missing_leaves_its_column_empty(tmp_path: Path) -> None:
    runs = {("salun", "mini/x", 0): write_run(tmp_path / "run")}
    found = compare([cell("salun", "mini/x", 0, 1.0)], ["salun"])
    (whole,) = grids(found, runs)
    lost = next((tmp_path / "run/eval/erased").glob("*/manifest.jsonl"))
    rows = lost.read_text().splitlines()
    lost.write_text("\n".join(rows[1:]) + "\n")
    (grid,) = grids(found, runs)
    assert [None if s is None else s.title for s in grid.rows[1][1]] == [
        None,
        *(s.title for s in whole.rows[1][1][1:] if s),
    ]
    render(found, runs, COMMAND)


def test_pictures_of_nudity_are_veiled(runs: dict[tuple[str, str, int], Path]) -> None:
    cells = [{**cell(n, "mini/x", 0, 1.0), "kind": "nudity"} for n in ("salun", "esd <x>")]
    found = compare(cells, ["salun", "esd <x>"])
    (grid,) = grids(found, runs)
    assert grid.veiled
    page = Reader(render(found, runs, COMMAND))
    assert page.tags.count("img") == page.values("label", "class").count("veil") == 24
    # So are those of a run that looked for it besides.
    asked = {**found, "cells": [{**c, "kind": "object", "nudity": {"n": 1}} for c in cells]}
    assert grids(asked, runs)[0].veiled
