"""What holds for every test: no network, no surprises in time, and tiny real models."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, ClassVar

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from erase.diffusion.model import Diffusion

# Before any test imports the libraries that read it: nothing may be fetched.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# What a run takes here is no measure of the user's machine.
_CACHE = TemporaryDirectory(prefix="erase-tests-")
os.environ["ERASE_CACHE"] = _CACHE.name

settings.register_profile("suite", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("suite")


@pytest.fixture(autouse=True)
def _nothing_was_said() -> None:
    """What is said once in a process is said once in each test."""
    from erase.runtime.notes import note

    note.cache_clear()


@pytest.fixture(autouse=True)
def _nothing_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests beside each other make no machine busy."""
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


@pytest.fixture(autouse=True)
def _noise_is_not_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages show tiny models' noise, where a detector would only take time: see test_screen."""
    from erase.eval import screen
    from erase.eval.instruments.nudenet import Detections

    class Blind:
        facts: ClassVar[dict[str, str]] = {}

        def detect(self, images: Sequence[object]) -> list[Detections]:
            return [Detections() for _ in images]

    monkeypatch.setattr(screen, "_detector", Blind)


@pytest.fixture(autouse=True, scope="module")
def _libraries_are_no_garbage() -> None:
    """Each stage of a run collects garbage: not among a million objects of imported libraries."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def first_generation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is a Stable Diffusion 1, ``some/model`` of the hub too."""
    monkeypatch.setattr("erase.formats.generation.kind_of", lambda model: "1")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ε-prediction pipeline on disk; not to be changed."""
    from tests.tiny import tiny_sd

    return tiny_sd(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny v-prediction pipeline on disk, with other weights; not to be changed."""
    from tests.tiny import tiny_sd

    return tiny_sd(tmp_path_factory.mktemp("models") / "tiny-v", "v_prediction", seed=1)


@pytest.fixture
def tiny(tiny_folder: Path) -> Diffusion:
    """The ε-prediction pipeline, opened afresh on the CPU."""
    from erase.diffusion.model import Diffusion

    return Diffusion.load(str(tiny_folder), "cpu")


@pytest.fixture
def tiny_v(tiny_v_folder: Path) -> Diffusion:
    """The v-prediction pipeline, opened afresh on the CPU."""
    from erase.diffusion.model import Diffusion

    return Diffusion.load(str(tiny_v_folder), "cpu")
