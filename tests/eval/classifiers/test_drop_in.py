"""A metric is one file: dropped into a copy of the package, it stands in every report."""

from __future__ import annotations

import json
from pathlib import Path

from tests.dropped_in import copy_with, run_code

MEAN = '''
"""Mean logit of the samples to forget."""

from erase.eval.figure import figure
from erase.eval.pages.table import Column
from erase.eval.stats.intervals import average

COLUMNS = (Column("mean_logit", "mean logit", about="of samples to forget", digits=2),)


def measure(case, side, references):
    values = side.logits["forget"].mean(1).tolist()
    return [figure(COLUMNS[0], average(values), side=side.name, metric="mean_logit")]
'''
SCRIPT = """
import sys
from pathlib import Path

from erase.eval.classifiers.metrics import list_metrics
from erase.eval.classifiers.report.evaluate import evaluate, write
from tests.eval.classifiers.answers import facts, saying

names = ("base", "unlearned", "retrain-1", "retrain-2", "retrain-3")
made = saying(**{name: (n, 0, 10 + n, n) for n, name in enumerate(names)})
report = evaluate(made.case, made.base, made.unlearned, made.retrained, facts("random"))
write(report, Path(sys.argv[1]))
print(*list_metrics())
"""


def test_it_stands_in_the_report(tmp_path: Path) -> None:
    folder = copy_with(tmp_path, "eval/classifiers/metrics/mean_logit.py", MEAN)
    said = run_code(folder, SCRIPT, str(tmp_path))
    assert "mean_logit" in said.split()
    rows = json.loads((tmp_path / "report.json").read_text())["figures"]
    own = {row["side"]: row for row in rows if row["key"] == "mean_logit"}
    assert {*own} == {"base", "unlearned", "retrain-1", "retrain-2", "retrain-3", "retrain"}
    assert own["base"]["n"] == 100 and own["retrain"]["n"] == 3
    shown = f"{own['unlearned']['value']:.2f}".replace("-", "−")
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if "Mean logit (of samples to forget)" in line]
    assert shown.lstrip("−") in line
    assert "mean_logit" in (tmp_path / "report.csv").read_text()
    assert "Mean logit" in (tmp_path / "report.html").read_text()
