"""The stages of a run of a classifier."""

from __future__ import annotations

from erase.runs.folder import Graph

STAGES = Graph(
    outputs={
        "train": ("split.json", "base"),
        "mask": ("mask.safetensors",),
        "unlearn": ("model.safetensors", "unlearning"),
        "retrain": ("retrain",),
        "eval": ("report.json", "report.html", "report.md", "report.csv"),
    },
    upstream={
        "train": (),
        "mask": ("train",),
        "unlearn": ("train", "mask"),
        "retrain": ("train",),
        "eval": ("train", "unlearn", "retrain"),
    },
    commands={stage: (stage,) for stage in ("train", "mask", "unlearn", "retrain", "eval")},
    program="erase classifier run",
    keyed=("retrain",),
)
RETRAINS = 3
"""Models that are retrained, of which a floor has an interval."""
