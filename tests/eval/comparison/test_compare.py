"""The comparison's rows, intervals and paired differences, on cells written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erase.eval.comparison.columns import COSTS, columns_of, harmonic
from erase.eval.comparison.compare import compare, paired, ranking, read_cells, row
from erase.eval.comparison.lead import lead
from erase.eval.comparison.tables import csv, latex, markdown
from erase.eval.comparison.told import measured_by, networks
from erase.eval.comparison.write import write_all
from erase.eval.figure import CellColumn
from erase.eval.stats.intervals import bootstrap
from erase.runtime.errors import UserError


def share(value: float | None) -> dict[str, Any] | None:
    return None if value is None else {"value": value, "n": 60, "low": 0.0, "high": 1.0}


def cell(
    recipe: str,
    concept: str,
    seed: int,
    ua: float,
    ira: float = 1.0,
    cra: float | None = 1.0,
    fid: float = 0.5,
) -> dict[str, Any]:
    return {
        "schema": 1,
        "recipe": recipe,
        "method": "salun",
        "concept": concept,
        "anchor": "mini/truck",
        "model": "mini",
        "seed": seed,
        "kind": "object",
        "settings": {"lr": 1e-3, "sampler": "ddim", "sampling_steps": 5, "guidance_scale": 3.0},
        "images": {"erased": {"forget": 60, "retain": 100}},
        "device": "cpu",
        "versions": {"torch": "2"},
        "base": {"denoiser": "ab"},
        "summary": {
            side: {"ua": share(ua), "ira": share(ira), "cra": share(cra)}
            for side in ("base", "erased")
        },
        "fidelity": [{"name": "FID[mini]", "base": 0.4, "erased": fid}],
        "clip_score": {"erased": {"value": 30.0}, "base": {"value": 31.0}},
        "over_erasure": {
            "lpips": "LPIPS[mini]",
            "groups": [
                {"name": "empty", "lpips": {"value": 0.9}},
                {"name": "general", "lpips": {"value": 0.125}},
            ],
        },
        "nudity": None,
        "training_seconds": 60.0,
        "training_memory_mb": 900,
        "moved": 50,
        "weights": 200,
        "bytes": 3_000_000,
    }


def test_the_harmonic_mean_of_what_was_measured() -> None:
    assert harmonic(cell("a", "x", 0, 1.0, 0.5, 0.25)) == pytest.approx(3 / (1 + 2 + 4))
    assert harmonic(cell("a", "x", 0, 1.0, 0.5, None)) == pytest.approx(2 / 3)
    assert harmonic(cell("a", "x", 0, 0.0)) == 0


def test_a_row_averages_seeds_within_concepts_first() -> None:
    cells = [cell("a", "x", s, v) for s, v in enumerate((0.0, 0.5, 1.0))]
    cells.append(cell("a", "y", 0, 1.0))
    found = row("a", cells)
    # (0.5 + 1.0) / 2, not the mean of four cells
    assert found["figures"]["ua"]["value"] == pytest.approx(0.75)
    assert (found["concepts"], found["seeds"], found["cells"]) == (2, [0, 1, 2], 4)
    # Two groups: a resample is one of 0.5, 0.75, 1.0.
    assert (found["figures"]["ua"]["low"], found["figures"]["ua"]["high"]) == (0.5, 1.0)
    assert found["fid_floor"] == pytest.approx(0.4)


def test_paired_differences_use_the_cells_that_both_have() -> None:
    cells = [cell("a", c, 0, v) for c, v in (("x", 0.9), ("y", 1.0), ("z", 0.2))]
    cells += [cell("b", "x", 0, 0.5), cell("b", "y", 0, 0.8), cell("b", "y", 1, 0.0)]
    found = paired(cells, "a", "b")
    assert found["cells"] == 2
    assert found["ua"]["value"] == pytest.approx((0.4 + 0.2) / 2)
    assert found["ua"]["low"] == pytest.approx(0.2) and found["ua"]["high"] == pytest.approx(0.4)


def test_a_model_that_no_seed_made_stands_at_every_seed() -> None:
    cells = [cell("a", "x", s, v) for s, v in enumerate((0.6, 0.8, 1.0))]
    cells.append({**cell("theirs", "x", 0, 0.5), "seedless": True})
    cells.append({**cell("theirs", "y", 0, 0.5), "seedless": True})  # a has no cell of y
    found = paired(cells, "a", "theirs")
    assert found["cells"] == 3 and found["ua"]["value"] == pytest.approx(0.3)
    ranks = ranking(cells, ["a", "theirs"])
    three = (harmonic(c) or 0 for c in cells[:3])
    assert ranks["cells"] == 3 and ranks["harmonic"]["a"] == pytest.approx(sum(three) / 3)


def test_a_listed_figure_has_a_column_where_a_cell_has_it() -> None:
    row = {"key": "binding", "title": "binding", "unit": "points", "better": None, "digits": None}
    row |= {"name": "", "about": "", "group": "", "side": "erased", "value": 0.0125, "n": 60}
    plain = [cell("a", c, 0, 1.0) for c in "xy"]
    unmeasured = {**cell("b", "x", 0, 1.0), "figures": [{**row, "value": None}]}
    for cells in (plain, [*plain, unmeasured]):
        result = compare(cells, ["a", "b"])
        assert "binding" not in markdown(result) + csv(result)
        assert "binding" not in result["rows"][0]["figures"]
    # A matrix that was begun before the figure was known.
    listed = {**cell("b", "x", 0, 1.0), "figures": [row]}
    result = compare([*plain, listed], ["a", "b"])
    head, _, base, first, second = (
        [text.strip() for text in line.split("|")]
        for line in markdown(result).splitlines()
        if line.startswith("|")
    )
    at = head.index("binding, points")
    assert (base[at], first[at], second[at]) == ("not measured", "not measured", "1.2")


@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=3), min_size=1, max_size=6))
def test_a_bootstrap_interval_stays_inside_the_groups(groups: list[list[float]]) -> None:
    found = bootstrap(groups)
    means = [sum(g) / len(g) for g in groups]
    assert found.value == pytest.approx(sum(means) / len(means))
    assert min(means) - 1e-9 <= found.low <= found.high <= max(means) + 1e-9
    if len(means) == 1:
        assert found.low == found.value == found.high


@pytest.mark.parametrize("n", [6, 10, 30])
def test_bootstrap_coverage_is_near_its_name(n: int) -> None:
    import numpy as np

    rng, inside = np.random.default_rng(1), 0
    for _ in range(300):
        found = bootstrap([[float(v)] for v in rng.normal(size=n)])
        inside += found.low <= 0 <= found.high
    # Plain percentiles cover 0.86 at n = 6 and 0.90 at n = 10.
    assert 0.915 <= inside / 300 <= 0.985


def test_no_interval_has_no_width() -> None:
    cells = [cell("a", f"c{i}", 0, 1.0) for i in range(10)]
    cells += [cell("b", f"c{i}", 0, 1.0, cra=None) for i in range(10)]
    result = compare(cells, ["a", "b"])
    found = result["rows"][0]["figures"]
    # 600 of 600: the lower bound is n / (n + z²).
    assert found["ua"]["low"] == pytest.approx(600 / (600 + 1.959963984540054**2))
    assert (found["ua"]["value"], found["ua"]["high"]) == (1.0, 1.0)
    text = markdown(result)
    row_a = text.splitlines()[3]
    assert row_a.startswith("| a | 100.0 (99.4–100.0) | 100.0 (99.4–100.0) | 100.0 (99.4–100.0) |")
    # A harmonic mean and a distance are no shares of images.
    assert "| 100.0 (no spread) | 0.50 (no spread) | 0.125 (no spread) |" in row_a
    # Seeds of a concept ask for the same images.
    twice = row("a", [cell("a", "x", s, 1.0) for s in (0, 1)] + [cell("a", "y", 0, 1.0)])
    assert twice["figures"]["ua"]["low"] == pytest.approx(120 / (120 + 1.959963984540054**2))
    # One concept apart is a spread again, and the bootstrap's.
    apart = row("a", [*cells[:9], cell("a", "c9", 0, 0.9)])["figures"]["ua"]
    assert apart["value"] == pytest.approx(0.99)
    assert 0.9 < apart["low"] < apart["value"] < apart["high"] == 1.0


def test_costs_with_and_without_the_images() -> None:
    made = {"image_seconds": 40.0, "forwards": 9000.0, "image_forwards": 18_000.0}
    found = row("a", [{**cell("a", "x", 0, 1.0), **made}])["figures"]
    values = {k: found[k]["value"] for k in COSTS}
    assert values == {
        "seconds": 60.0,
        "all_seconds": 100.0,
        "forwards": 9000.0,
        "all_forwards": 27_000.0,
        "memory": 900.0,
    }
    # What a cell does not know is not measured, rather than half of it printed as the whole.
    unknown = row("a", [cell("a", "x", 0, 1.0)])["figures"]
    assert unknown["all_seconds"] is None and unknown["forwards"] is None


def test_the_tables(tmp_path: Path) -> None:
    cells = [cell("salun", c, 0, 0.9) for c in "xy"]
    cells += [cell("esd_x", c, 0, 0.8, cra=None) for c in "xy"]
    result = compare(cells, ["salun", "missing", "esd_x"])
    assert [r["recipe"] for r in result["rows"]] == ["salun", "esd_x"]
    assert [p["second"] for p in result["paired"]] == ["esd_x"]
    text = markdown(result)
    # Two concepts of 60 images agree: the Wilson interval of 108 of 120.
    assert "| salun | 90.0 (83.3–94.2) |" in text and "not measured" in text
    assert text.splitlines()[1].count("---") == text.splitlines()[0].count("|") - 1
    tex = latex(result)
    assert r"\textbf{90.0}" in tex and r"esd\_x" in tex and "80.0" in tex
    lines = csv(result).splitlines()
    assert len(lines) == 5 and lines[0].endswith(",".join(c.key for c in columns_of(cells)))
    assert write_all(tmp_path, result, {}, "erase compare") == text
    assert json.loads((tmp_path / "compare.json").read_text())["rows"] == result["rows"]


def test_latex_says_of_how_many_cells_a_figure_is() -> None:
    cells = [cell("a", f"c{i}", 0, 1.0, cra=None if i % 2 else 0.9) for i in range(6)]
    text = latex(compare(cells, ["a"]))
    assert "90.0 [3]" in text and "100.0 [" not in text
    assert text.startswith("% In brackets, of how many")


def test_latex_prints_names_and_bold_as_they_are() -> None:
    def result(*values: tuple[str, str, float]) -> dict[str, Any]:
        cells = [cell(name, c, 0, ua) for name, c, ua in values]
        for c in cells:
            c["fidelity"][0]["name"] = "FID[open_clip:ViT-B-32]"
        return compare(cells, list(dict.fromkeys(v[0] for v in values)), ["c#1, y, seed 0"])

    # b is spared the concept that a finds hard; a_1 and d print the same.
    found = result(
        *((n, c, ua) for n, ua in (("a_1", 0.9996), ("d", 0.9999)) for c in "xy"), ("b&c", "x", 1.0)
    )
    lines = latex(found).splitlines()
    assert lines[0] == "% Missing: c#1, y, seed 0."
    assert r"FID[open\_clip:ViT-B-32]" in lines[3] and r"UA \%" in lines[3]
    first = {line.split(" & ")[0]: line.split(" & ")[1] for line in lines[5:8]}
    assert first == {r"a\_1": r"\textbf{100.0}", "d": r"\textbf{100.0}", r"b\&c": "100.0"}
    assert [line.split(" & ")[-1] for line in lines[5:8]] == [r"2 \\", r"2 \\", r"1 \\"]
    assert "| a\\|b |" in markdown(compare([cell("a|b", "x", 0, 1.0)], ["a|b"]))


def test_distances_stand_under_their_own_name_and_nudity_where_asked() -> None:
    plain = compare([cell("a", c, 0, 1.0) for c in "xy"], ["a"])
    assert "| FID[mini] |" in markdown(plain) and "nudity" not in markdown(plain)
    shares = {side: share(v) for side, v in (("base", 0.5), ("erased", 0.1))}
    asked = compare([{**cell("a", c, 0, 1.0), "nudity": shares} for c in "xy"], ["a"])
    head, _, base, row_ = markdown(asked).splitlines()[:4]
    at = head.split("|").index(" nudity % ")
    assert base.split("|")[at].startswith(" 50.0") and row_.split("|")[at].startswith(" 10.0")


def test_a_figure_that_no_cell_has_is_named_beneath_rather_than_a_column() -> None:
    both = [cell(name, c, 0, 0.9, cra=None) for name in "ab" for c in "xy"]
    text = markdown(compare(both, ["a", "b"]))
    assert "CRA" not in text.splitlines()[0]
    assert "Not measured in any cell: CRA" in text and "nudity" not in text
    some = [*both[:2], *(cell("b", c, 0, 0.9) for c in "xy")]
    text = markdown(compare(some, ["a", "b"]))
    assert "| CRA % |" in text and "Not measured in any cell" not in text


def test_a_damaged_cell_is_named(tmp_path: Path) -> None:
    for text in ("{", '{"schema": 1, "recipe": "a"}', "[]"):
        (tmp_path / "cell.json").write_text(text)
        with pytest.raises(UserError, match="cell.json can't be read"):
            read_cells([tmp_path / "cell.json"])


def test_how_far_everyday_captions_moved_stands_in_the_table() -> None:
    result = compare([cell("a", "x", 0, 1.0)], ["a"])
    text = markdown(result)
    assert "LPIPS[mini], everyday" in text
    assert result["rows"][0]["figures"]["lpips"]["value"] == 0.125
    assert result["base_row"]["figures"]["lpips"] is None
    base = next(line for line in text.splitlines() if line.startswith("| base model"))
    assert "not measured" not in base


def test_a_figure_of_fewer_cells_says_of_how_many() -> None:
    cells = [cell(name, c, 0, ua) for name, ua in (("a", 1.0), ("b", 0.5)) for c in "xyz"]
    for own in cells:
        if own["concept"] == "z":
            own["summary"]["erased"] = dict.fromkeys(("ua", "ira", "cra"))
    text = markdown(compare(cells, ["a", "b"]))
    line = next(line for line in text.splitlines() if line.startswith("| a "))
    assert "2 cells)" in line and "1 × 1" not in line
    # Ranked over what was measured, and said so.
    assert ranking(cells, ["a", "b"])["cells"] == 2


def test_a_row_that_lacks_a_share_on_one_concept_is_said_to() -> None:
    cells = [cell(n, c, 0, 1.0, cra=None if c == "0" else 1.0) for n in "ab" for c in "01234567"]
    assert "harmonic mean of UA, IRA and CRA where measured" in " ".join(
        lead(compare(cells, ["a", "b"]))
    )


def test_what_cells_are_to_be_read_with_stands_below_the_table() -> None:
    told = {"warnings": ["FID has 2048 dimensions but only 200 images."]}
    cells = [{**cell("a", "x", 0, 1.0), **told}, cell("a", "y", 0, 1.0)]
    text = markdown(compare(cells, ["a"]))
    assert "FID has 2048 dimensions but only 200 images (x).\n" in text
    # Two concepts have a range, no interval; ten have one.
    assert "An interval over two concepts is their range" in text
    many = markdown(compare([cell("a", f"{i}", 0, 1.0) for i in range(10)], ["a"]))
    assert "is their range" not in many


def test_who_measured_is_told_in_a_line_each() -> None:
    metrics = {
        "classifier": {"judges": {"object": {"spec": "timm:x", "labels": ["a", "b"]}}},
        "fidelity": {"extractor": {"name": "inception", "dimensions": 2048, "sha256": "0" * 64}},
        "lpips": {"name": "LPIPS[mini]"},
        "nudity": {"detector": "nudenet", "threshold": 0.6, "counted": ["FACE_MALE"]},
    }
    assert measured_by(metrics) == [
        "judge by object: timm:x, 2 classes",
        f"FID and KID: inception, 2048 features (sha256 {'0' * 16})",
        "LPIPS: LPIPS[mini]",
        "nudity: nudenet, a score above 0.6 for face male",
    ]
    assert measured_by({}) == []
    own = [{"concept": c, "measured_by": ["one", c]} for c in "xy"]
    assert networks(own) == ["one", "x (x).", "y (y)."]


def test_nought_has_no_sign_and_less_than_it_has_a_true_one() -> None:
    column = CellColumn("x", "x", digits=1)
    assert [column.text(v) for v in (-0.04, -0.25, 0.0)] == ["0.0", "\N{MINUS SIGN}0.2", "0.0"]
