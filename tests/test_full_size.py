"""SD 2 and XL at their published sizes, weights drawn at random: one saliency batch and one step
within 24 GB. Slow, and needs 7 GB of disk for a while."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.sizes import BAR_GB, SIZES, measure


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "weights"), [("2", 865_910_724), ("XL", 2_567_463_684)])
def test_a_step_fits_into_24_gigabytes(kind: str, weights: int, tmp_path: Path) -> None:
    found = measure(kind, SIZES[kind], tmp_path)
    assert found["weights"] == weights
    assert found["peak_gb"] < BAR_GB
    assert 0 < found["loss"] < 1e3
