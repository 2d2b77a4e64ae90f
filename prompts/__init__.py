"""What to erase and what to ask, as data: ``concepts/**/*.toml`` and ``sets/*.csv``."""

from pathlib import Path

FOLDER = Path(__file__).parent
"""Holds ``concepts/`` and ``sets/``."""
