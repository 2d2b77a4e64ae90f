from __future__ import annotations

from pathlib import Path

import pytest

from erase.demo.show import Show, open_show
from tests.demo.shows import tiny_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """Not to be changed."""
    return tiny_run(tiny_folder, tmp_path_factory.mktemp("runs") / "church")


@pytest.fixture(scope="session")
def show(run: Path) -> Show:
    return open_show([run], "cpu")
