"""Tiny models that are opened once: an attack leaves a model as it was, which a test holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from erase.diffusion.model import Diffusion
from tests.tiny import tiny_sdxl


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Diffusion:
    """An ε-prediction pipeline."""
    return Diffusion.load(str(tiny_folder))


@pytest.fixture(scope="session")
def tiny_v(tiny_v_folder: Path) -> Diffusion:
    """A v-prediction pipeline with other weights."""
    return Diffusion.load(str(tiny_v_folder))


@pytest.fixture(scope="session")
def tiny_xl(tmp_path_factory: pytest.TempPathFactory) -> Diffusion:
    """A pipeline with two text encoders, which fill prompts up with different tokens."""
    return Diffusion.load(str(tiny_sdxl(tmp_path_factory.mktemp("models") / "xl")))
