"""A metric is one file: dropped into a copy of the package, it stands in every report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.dropped_in import copy_with, run_code
from tests.eval.synthetic import write_run

BRIGHTNESS = '''
"""Mean brightness of the images, 0 to 255."""

from dataclasses import dataclass, field

from erase.eval.figure import figure
from erase.eval.pages.table import Column
from erase.eval.stats.intervals import average, share
from erase.eval.store import measured

COLUMNS = (
    Column("brightness", "brightness", about="mean of all bytes, 0 to 255", digits=2),
    Column("light", "light", "%", "up", about="images whose mean is above 128"),
)


@dataclass(frozen=True)
class Brightness:
    store: object
    facts: dict = field(default_factory=dict)

    def looks_at(self, picture):
        return True

    def measure(self, images, against=()):
        return measured(
            images,
            lambda batch: [float(image.mean()) for image in batch],
            store=self.store,
            by="brightness",
            title="brightness",
        )

    def score(self, rows, against=()):
        light = share(sum(value > 128 for value in rows), len(rows))
        return [figure(COLUMNS[0], average(rows)), figure(COLUMNS[1], light)]


def build(setting):
    return Brightness(setting.store)
'''
SCRIPT = """
import sys
from pathlib import Path

from erase.cli.main import main
from erase.eval.comparison.compare import cell_facts, compare
from erase.eval.comparison.write import write_all
from erase.eval.report.evaluate import evaluate
from erase.eval.report.requirements import RequirementError, check_report, parse
from erase.eval.report.result import load_report
from tests.eval.synthetic import CHURCH, TRUCK, judges

run, place = Path(sys.argv[1]), Path(sys.argv[2])
main(["list", "metrics"])
evaluate(run, CHURCH, TRUCK, judges=judges())
sides = [str(run / "eval" / side) for side in ("erased", "base")]
out = ["--out", str(place / "folders")]
main(["eval", "--images", *sides, "--metrics", "brightness", *out, "--require", "light=0"])
report = load_report(run)
for least in (report.figure("light"), report.figure("light") + 0.01):
    try:
        check_report(report, parse(f"light={least}"))
    except RequirementError as error:
        print("asked for more:", error)
made = {"training_seconds": 1.0, "training_memory_mb": 1, "moved": 1, "weights": 1, "bytes": 1}
sampling = {"sampler": "ddim", "sampling_steps": 5, "guidance_scale": 3.0}
cells = [
    {**cell_facts(run), **made, "recipe": name, "settings": sampling, "versions": {"torch": "2"}}
    for name in ("quick", "slow")
]
write_all(place, compare(cells, ["quick", "slow"]), {}, "erase compare")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_with(tmp_path_factory.mktemp("dropped"), "eval/metrics/brightness.py", BRIGHTNESS)
    write_run(folder / "run")
    (folder / "said").write_text(run_code(folder, SCRIPT, str(folder / "run"), str(folder)))
    return folder


def test_it_is_listed_by_its_first_line(place: Path) -> None:
    lines = (place / "said").read_text().splitlines()
    assert any(
        line.split() == ["brightness", *BRIGHTNESS.split('"""')[1][:-1].split()] for line in lines
    )


def test_a_runs_report_tells_it_by_side(place: Path) -> None:
    report = json.loads((place / "run" / "report.json").read_text())
    sides = {f["side"]: f for f in report["figures"] if f["key"] == "brightness"}
    assert {side: f["n"] for side, f in sides.items()} == {"base": 22, "erased": 22}
    base, erased = (f"{sides[side]['value']:.2f}" for side in ("base", "erased"))
    assert base != erased
    text = (place / "run" / "report.md").read_text()
    assert f"| Brightness | 22 | {base} (" in text and f"| {erased} (" in text
    assert "brightness,,,,erased,22," in (place / "run" / "report.csv").read_text()
    page = (place / "run" / "report.html").read_text()
    assert "<strong>Brightness</strong>mean of all bytes, 0 to 255" in page and erased in page


def test_folders_are_measured_by_its_name(place: Path) -> None:
    report = json.loads((place / "run" / "report.json").read_text())
    own = {f["side"]: f["value"] for f in report["figures"] if f["key"] == "brightness"}
    found = json.loads((place / "folders" / "report.json").read_text())
    values = {f["name"]: f["figures"][0]["value"] for f in found["folders"]}
    assert values == pytest.approx(own)
    assert "| folder | images | brightness |" in (place / "folders" / "report.md").read_text()
    assert (
        "Brightness and light in erased and base" in (place / "folders" / "report.html").read_text()
    )


def test_a_share_of_its_own_can_be_required(place: Path) -> None:
    report = json.loads((place / "run" / "report.json").read_text())
    own = {f["side"]: f["value"] for f in report["figures"] if f["key"] == "light"}
    lines = [
        line for line in (place / "said").read_text().splitlines() if line.startswith("asked for")
    ]
    assert lines == [
        f"asked for more: light is {own['erased']:.4g}, but {own['erased'] + 0.01:g} or more is "
        "required."
    ]


def test_a_comparison_has_its_column(place: Path) -> None:
    lines = (place / "compare.md").read_text().splitlines()
    head, _, base, *rows = (line for line in lines if line.startswith("|"))
    at = head.split("|").index(" brightness ")
    report = json.loads((place / "run" / "report.json").read_text())
    own = {f["side"]: f"{f['value']:.2f}" for f in report["figures"] if f["key"] == "brightness"}
    assert base.split("|")[at].strip() == own["base"]
    assert {row.split("|")[at].strip() for row in rows} == {own["erased"]}
    assert "brightness" in (place / "compare.csv").read_text().splitlines()[0].split(",")
    assert "brightness" in (place / "compare.html").read_text()
