"""One table in four spellings, derived by hand."""

from __future__ import annotations

from erase.eval.pages.html import template
from erase.eval.pages.table import Cell, Column, csv, latex, markdown

COLUMNS = [
    Column("name", "recipe"),
    Column("ua", "UA", "%", "up"),
    Column("change", "change", "points"),
    Column("fid", "FID[a_b]", better="down"),
]
ROWS = [
    {"name": "a|b", "ua": Cell("90.0", "83–94", "best"), "change": "−1.0", "fid": Cell("0.5")},
    {"name": "c & d", "ua": Cell("–"), "fid": 2},
]


def test_markdown_has_units_in_its_heads_and_notes_in_brackets() -> None:
    assert markdown(COLUMNS, ROWS) == (
        "| recipe | UA % | change, points | FID[a_b] |\n"
        "|---|---|---|---|\n"
        "| a\\|b | 90.0 (83–94) | −1.0 | 0.5 |\n"
        "| c & d | – |  | 2 |\n"
    )


def test_csv_holds_values_as_they_are() -> None:
    rows = [{"name": "a,b", "ua": 0.9}, {"name": "c", "ua": None, "fid": 2}]
    assert csv(("name", "ua", "fid"), rows) == 'name,ua,fid\n"a,b",0.9,\nc,,2\n'


def test_latex_escapes_and_prints_the_best_in_bold() -> None:
    lines = latex(COLUMNS, ROWS).splitlines()
    assert lines[0] == r"\begin{tabular}{lrrr}"
    assert lines[2] == r"recipe & UA \% & change, points & FID[a\_b] \\"
    assert lines[4:6] == [
        r"a|b & \textbf{90.0} & $-$1.0 & 0.5 \\",
        r"c \& d & -- &  & 2 \\",
    ]


def test_html_escapes_and_names_every_cell() -> None:
    rows = [*ROWS, {"name": "<e>", "ua": Cell("1.0", "0–2", "worse"), "css": "base"}]
    html = str(template("table.html.j2").module.table(COLUMNS, rows))
    assert '<th scope="col" class="num">UA %&nbsp;<span role="img"' in html
    assert '<tr class="base"><th scope="row">&lt;e&gt;</th>' in html
    assert 'data-label="UA %"><span><span class="worse">1.0</span><small>' in html
    assert '<td class="num empty" data-label="UA %">' in html
