"""The cells of a comparison: what stands for an included model."""

from __future__ import annotations

from pathlib import Path

import pytest

from erase.formats.base import Base
from erase.runtime.errors import UserError
from erase.study import matrix
from erase.study.compare import make_matrix


def test_a_bundled_model_that_never_knew_a_concept_is_included_by_name(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "list_never", lambda: ["never-church"])
    monkeypatch.setattr(matrix, "open_base", lambda spec: Base(spec, tiny_folder))
    includes = ["never-knew=never-{concept}", "half=never-{concept}@0.5"]
    made = make_matrix("mini", ["uce"], ["church"], [0], tmp_path / "m", includes=includes)
    [_, cell, half] = made.cells
    assert (cell.recipe.name, cell.recipe.method) == ("never-knew", "included")
    assert (cell.recipe.config.file, cell.recipe.config.path) == ("never-church", tiny_folder)
    assert (half.recipe.config.path, half.recipe.config.strength) == (tiny_folder, 0.5)
    with pytest.raises(UserError, match="There is no model never-radio"):
        make_matrix("mini", ["uce"], ["radio"], [0], tmp_path / "n", includes=includes)
