"""The table over a family against one computed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from erase.eval.report.family import summarise


def report(concept: str, ua: float, ira: float, changes: list[float], fid: float) -> dict[str, Any]:
    def side(u: float, i: float) -> dict[str, Any]:
        return {"ua": {"value": u}, "ira": {"value": i}, "cra": None}

    return {
        "run": {"concept": concept, "anchor": "mini/truck"},
        "summary": {"base": side(0.0, 1.0), "erased": side(ua, ira)},
        "per_class": [
            {"role": "retain", "base": {"value": 1.0}, "erased": {"value": 1.0 + c, "n": 24}}
            for c in changes
        ]
        # One image of a class is no loss of 100 points.
        + [{"role": "retain", "base": {"value": 1.0}, "erased": {"value": 0.0, "n": 1}}]
        + [{"role": "forget", "base": {"value": 1.0}, "erased": {"value": 0.0}}],
        "fidelity": [{"name": "FID[mini]", "base": 1.0, "erased": fid}],
        "warnings": ["FID is mostly bias."],
    }


def test_means_and_the_worst_neighbour(tmp_path: Path) -> None:
    runs = []
    reports = [
        report("mini/church", 1.0, 0.9, [-0.02, 0.0], 1.5),
        report("mini/radio", 0.9, 1.0, [-0.08, -0.01], 2.5),
    ]
    for i, content in enumerate(reports):
        runs.append(tmp_path / str(i))
        runs[-1].mkdir()
        (runs[-1] / "report.json").write_text(json.dumps(content))
    text = summarise(tmp_path, runs)
    lines = text.splitlines()
    assert "mini/church" in lines[2]
    assert "-2.0" in lines[2]
    assert "-8.0" in lines[3]
    assert "95.0" in lines[4]  # mean UA
    assert "95.0 (100.0)" in lines[4]  # mean IRA and the base's
    assert "2.00 (1.00)" in lines[4]
    assert lines[5:] == ["", "FID is mostly bias."]  # once
    assert "not measured" in lines[2]  # CRA
    assert (tmp_path / "summary.md").read_text() == text
    assert json.loads((tmp_path / "summary.json").read_text())["mean"]["erased_ua"] == 0.95
