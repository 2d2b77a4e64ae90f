"""Measures images that somebody else made: which of two folders shows the concept less?

    python examples/evaluate_images.py mini/church theirs ours

Each folder has a manifest.jsonl, as `erase generate --set mini` writes it. Add --against with the
base model's folder for paired changes: what `erase eval --help` lists can be given here.
"""

import json
import sys
from pathlib import Path

from erase.cli.main import main as erase


def main(concept: str, *folders: str, out: str = "runs/judged") -> dict[str, float]:
    """UA of each folder, a fraction."""
    erase(["eval", "--images", *folders, "--concept", concept, "--out", out])
    report = json.loads((Path(out) / "report.json").read_text(encoding="utf-8"))
    found = {}
    for folder in report["folders"]:
        ua = folder["classifier"]["ua"]
        found[folder["name"]] = ua["value"]
        print(f"{folder['name']}: the concept is gone from {ua['value']:.0%} of {ua['n']} images")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
