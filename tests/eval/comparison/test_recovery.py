"""What attacks brought back, in a comparison's tables and on its page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from erase.eval.comparison.compare import compare
from erase.eval.comparison.lead import lead
from erase.eval.comparison.page import render
from erase.eval.comparison.recovery import WORST, with_recovery
from erase.eval.comparison.tables import attack_differences, attack_table, csv, latex, markdown
from erase.eval.recovery import ATTACK
from erase.eval.recovery.outcome import Seen, outcome
from erase.eval.recovery.report import report, write
from erase.runtime.errors import UserError
from tests.eval.comparison.test_compare import cell
from tests.eval.recovery.made import ROWS, facts, hits, made

CONCEPTS = ("radio", "saw")


def attacked(folder: Path, *each: Any, **changed: Any) -> Path:
    write(report(each, {}, facts() | changed, {}), folder / ATTACK)
    return folder


@pytest.fixture
def cells(tmp_path: Path) -> list[dict[str, Any]]:
    """Recipe a, of which inversion brings 2 of 20 back, b (8 of 20), and c, not attacked."""
    given, folders = [], []
    for recipe, back in (("a", 2), ("b", 8)):
        for concept in CONCEPTS:
            given.append(cell(recipe, concept, 0, 0.99))
            both = made("inversion", True, back), made("relearn", False, 1, curve=True)
            more = (made("latent", False, 20),) if concept == "saw" else ()
            folders.append(attacked(tmp_path / recipe / concept, *both, *more))
    given.append(cell("c", "saw", 0, 0.99))
    return with_recovery(given, [*folders, tmp_path / "c"])


def test_the_worst_recovery_is_of_the_attacks_that_all_have(cells: list[dict[str, Any]]) -> None:
    # latent was made on one concept alone; of inversion (2 - 1) / 19 and (8 - 1) / 19 come back.
    assert [WORST.of(c) for c in cells] == pytest.approx([1 / 19] * 2 + [7 / 19] * 2 + [None])
    assert {c["recovery"]["by"] for c in cells[:4]} == {"inversion"}
    result = compare(cells, ["a", "b", "c"])
    by = {row["recipe"]: row["figures"] for row in result["rows"]}
    assert by["b"]["recovery"]["value"] == pytest.approx(7 / 19) and by["c"].get("recovery") is None
    assert result["paired"][0]["recovery"]["value"] == pytest.approx(-6 / 19)
    columns, rows = attack_table(result)
    titles = ["recipe", "worst R", "inversion", "relearn", "relearn, 5 steps", "relearn, 25 steps"]
    assert [c.title for c in columns] == titles
    assert [rows[0][f"relearn@{step}"].text for step in (5, 25)] == ["0.0", "5.0"]
    assert [rows[3][f"relearn@{step}"].text for step in (5, 25)] == ["50.0", "100.0"]
    # Paired by concept and seed: 2 of 20 minus 8 of 20.
    [against, *shown], [pair] = attack_differences(result)
    assert against.title == "against" and [c.title for c in shown] == titles[2:]
    assert (pair["against"].text, pair["inversion"].text, pair["relearn@5"].text) == (
        "b", "\u221230.0", "0.0"
    )  # fmt: skip
    assert "a minus the other, in points" in markdown(result)
    told = [(row["recipe"].text, row["inversion"].text) for row in rows]
    assert told == [
        ("a", "10.0"),
        ("b", "40.0"),
        ("floor", "5.0"),
        ("ceiling: the base", "100.0"),
    ]
    assert rows[1]["recipe"].note == "2 returns"
    assert lead(result)[-1] == "Under attack, a: 2 removed; b: 2 returns."


def test_bounds_stand_where_the_last_recipe_could_not_be_attacked_so(
    cells: list[dict[str, Any]],
) -> None:
    for one in cells[2:4]:  # of b
        one["recovery"]["attacks"].pop("inversion")
    _, rows = attack_table(compare(cells, ["a", "b", "c"]))
    shown = [row["inversion"].text for row in rows]
    assert shown == ["10.0", "–", "5.0", "100.0"]


def test_tables_and_page_tell_of_attacks_only_where_there_were_some(
    cells: list[dict[str, Any]],
) -> None:
    with_attacks = compare(cells, ["a", "b", "c"])
    without = compare([{**c, "recovery": None} for c in cells], ["a", "b", "c"])
    assert "worst R" in markdown(with_attacks) and "| relearn" in markdown(with_attacks)
    assert "recovery" in csv(with_attacks).splitlines()[0]
    html = render(with_attacks, {}, "erase compare")
    assert "Does it come back?" in html and "Recovered against kept" in html
    assert "worst R" not in markdown(without) and "recovery" not in csv(without)
    assert "Does it come back?" not in render(without, {}, "erase compare")


def test_cells_attacked_otherwise_stand_in_no_table(tmp_path: Path) -> None:
    one = attacked(tmp_path / "a", made("inversion", True, 2))
    other = attacked(tmp_path / "b", made("inversion", True, 2), budget="full")
    pair = [cell("a", "saw", 0, 0.99), cell("b", "saw", 0, 0.99)]
    with pytest.raises(UserError, match=r"different budget \(full and quick\)"):
        with_recovery(pair, [one, other])
    # The floor of another concept is another model by the same name.
    radio = {"name": "radio", "kind": "object", "word": "radio"}
    third = attacked(tmp_path / "c", made("inversion", True, 2), concept=radio, floor="never-radio")
    assert with_recovery(pair, [one, third])[1]["recovery"]["worst"] == pytest.approx(1 / 19)
    fourth = attacked(tmp_path / "d", made("inversion", True, 2), floor="another")
    with pytest.raises(UserError, match="different floor for .*another"):
        with_recovery(pair, [one, fourth])
    (other / ATTACK / "attack.json").write_text(json.dumps({"schema": 1}))
    with pytest.raises(UserError, match="attack again"):
        with_recovery(pair, [one, other])


def test_attacks_on_a_model_that_a_cell_no_longer_has_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = attacked(tmp_path / "a", made("inversion", True, 2), inputs="before")
    now, before = cell("a", "saw", 0, 0.99), {**cell("a", "saw", 0, 0.99), "inputs": "before"}
    assert with_recovery([before], [folder])[0]["recovery"]["worst"] == pytest.approx(1 / 19)
    assert "recovery" not in with_recovery([{**now, "inputs": "after"}], [folder])[0]
    assert "on the model that it held before" in capsys.readouterr().err


def test_a_verdict_is_of_the_attacks_that_all_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some, all_of_it = made("inversion", False, 2), made("relearn", False, 19, curve=True)
    folders = [attacked(tmp_path / "a", some, all_of_it), attacked(tmp_path / "b", some)]
    pair = [cell("a", "saw", 0, 0.99), cell("b", "saw", 0, 0.99)]
    told = [c["recovery"]["verdict"] for c in with_recovery(pair, folders)]
    assert told == ["removed", "removed"]
    assert "do without" in capsys.readouterr().err


def test_an_attack_that_undoes_edits_of_one_kind_counts_where_it_applies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the closed form of keys and values, or the base's text encoder."""
    some, undone = made("inversion", False, 2), made("stock-encoder", False, 19)
    folders = [attacked(tmp_path / "a", some), attacked(tmp_path / "b", some, undone)]
    file = folders[0] / ATTACK / "attack.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "refused": {"stock-encoder": "It is the base's own."}}))
    pair = [cell("a", "saw", 0, 0.99), cell("b", "saw", 0, 0.99)]
    found = with_recovery(pair, folders)
    assert [c["recovery"]["by"] for c in found] == ["inversion", "stock-encoder"]
    assert [c["recovery"]["verdict"] for c in found] == ["removed", "hidden"]
    result = compare(found, ["a", "b"])
    line = next(text for text in markdown(result).splitlines() if text.startswith("| a (1 removed"))
    assert line.endswith("| – |") and "stock-encoder %" in markdown(result)
    assert "do without" not in capsys.readouterr().err


def test_restarts_make_no_interval_narrower_than_their_rows_do(tmp_path: Path) -> None:
    sides = {
        side: Seen(pre=hits(0), post=[hits(k)] * 3)
        for side, k in (("erased", 0), ("random", 0), ("ceiling", ROWS), ("floor", 0))
    }
    found = outcome("inversion", False, sides)
    places = [attacked(tmp_path / str(i), found) for i in range(10)]
    cells = [cell("a", f"thing {i}", 0, 0.99) for i in range(10)]
    [row, *_] = compare(with_recovery(cells, places), ["a"])["attacks"]
    # Wilson's upper end of none of 200, not of none of 600.
    assert row["figures"]["inversion"]["high"] == pytest.approx(0.0188, abs=1e-3)


def test_figures_of_fewer_cells_say_so(tmp_path: Path) -> None:
    names = [f"thing {i}" for i in range(4)]
    cells = [cell(recipe, name, 0, 0.99) for recipe in ("a", "b") for name in names]
    folders = [tmp_path / f"{c['recipe']}-{c['concept']}" for c in cells]
    for folder in (folders[0], folders[4], folders[5]):
        attacked(folder, made("inversion", True, 8))
    result = compare(with_recovery(cells, folders), ["a", "b"])
    [_, *_], [pair] = attack_differences(result)
    assert pair["against"].note == "1 cell"
    text = markdown(result)
    assert re.search(r"\| b \|.*2 cells\)", text) and "4 × 1 (4)" in text
    assert r"\textbf{36.8" not in latex(result)
